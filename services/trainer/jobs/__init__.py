"""Training jobs as the control plane knows them: asked for, planned, started, followed, resumed, cleaned up after."""
