"""The RPCs, room by room: translate in, call, translate out. The trainer's are passed on as they are."""
