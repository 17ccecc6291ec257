"""Ways to replace a convolution by several in sequence: which of them has which axes of the kernel."""

from __future__ import annotations

from collections.abc import Sequence

from archc.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class KernelForm:
    """A way to split a convolution into convolutions in sequence, with fewer channels between them.

    Attributes:
        name: the value of the option `form` of `lowrank`.
        axes: spatial axes along which the kernel of each convolution has the size of the original one; along other
            axes, it has size 1.
    """

    name: str
    axes: tuple[tuple[int, ...], ...]

    @property
    def links(self) -> int:
        """Number of tensors between the convolutions; each has a rank, its number of channels in a group."""
        return len(self.axes) - 1


def kernel_forms(kernel: Sequence[int]) -> tuple[KernelForm, ...]:
    """Forms of a convolution with a kernel of this size.

    - `channel`: the kernel with few output channels, then a pointwise convolution (Zhang et al. 2015, "Accelerating
      Very Deep Convolutional Networks", section 3.1).
    - `pointwise`: the reverse.
    - `tucker`: the kernel between two pointwise convolutions (Kim et al. 2016, "Compression of Deep Convolutional
      Neural Networks", section 3: Tucker-2).
    - `spatial`: the first axis of the kernel, then the other axes (Jaderberg et al. 2014, "Speeding up Convolutional
      Neural Networks with Low Rank Expansions").  A kernel with one axis longer than 1 has no such form: the result
      would be one of the first two.
    """
    every = tuple(range(len(kernel)))
    long = [axis for axis in every if kernel[axis] > 1]
    forms = [KernelForm("channel", (every, ()))]
    if long:
        forms += [KernelForm("pointwise", ((), every)), KernelForm("tucker", ((), every, ()))]
    if len(long) > 1:
        forms.append(KernelForm("spatial", ((long[0],), tuple(axis for axis in every if axis != long[0]))))
    return tuple(forms)
