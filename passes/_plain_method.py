"""Warning of a method that uses no calibration data."""

from __future__ import annotations

from archc.passmanager import Context


def warn_without_data(context: Context, effect: str, gain: str, option: str) -> None:
    """Warn if trained weights are compressed without data; random inputs have a warning of their own.

    Args:
        effect: sentence that names the pass and its plain method.
        gain: the gain of representative inputs.
        option: option that asks for the plain method, and so for no warning.
    """
    calibration = context.calibration
    if calibration.trained and not calibration.real and not calibration.asked:
        context.diagnostics.warn(
            "plain-method",
            effect,
            help=f"give representative inputs with `--calib FILE`, for {gain}; or ask for the plain method: `{option}`",
        )
