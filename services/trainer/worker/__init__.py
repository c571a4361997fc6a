"""The worker process: one attempt at one job, the learning core wired to the encoder, the decoder and the job table."""
