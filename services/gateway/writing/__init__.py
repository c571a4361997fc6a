"""How profiles come to be written: from a history by the encoder, when somebody asks or when the queue has one."""
