"""Methods that compression passes share: metrics, sequential calibration, solvers and allocation."""
