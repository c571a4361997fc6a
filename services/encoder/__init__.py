"""The profile encoder pi as a service: a language model that writes profiles and samples rollouts from interaction histories."""
