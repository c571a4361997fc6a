"""The gateway's HTTP door: Connect JSON for programs and the page for people, both in front of its own gRPC door."""
