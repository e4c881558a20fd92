"""Where the cells of a trunk's map lie in the image, the same for images of every size.

TensorFlow's "same" padding, with which efficientnet_lite0 was trained, depends on the parity of every map: the centre of
cell u is pixel 16 u in an image of 353 pixels, 16 u + 7 in one of 360 and 16 u + 15 in one of 480. A detector learns where
things are, so this would be noise of up to a cell. Padding by half the kernel on both sides is the same on odd sides and
puts the centre at 16 u on all; the map still has ceil(side / 16) cells.
"""

from torch import nn

from lib.nets.backbones import Backbone


def centre(backbone: Backbone) -> Backbone:
    """Gives the trunk's convolutions symmetric padding, in place; the tensors and their names stay. Returns the backbone."""
    for module in list(backbone.trunk.modules()):
        for name, conv in module.named_children():
            if isinstance(conv, nn.Conv2d) and type(conv) is not nn.Conv2d:
                sides = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
                plain = nn.Conv2d(
                    conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, sides, groups=conv.groups,  # type: ignore[arg-type]
                    bias=conv.bias is not None, device="meta",
                )
                plain.weight, plain.bias = conv.weight, conv.bias
                setattr(module, name, plain)
    return backbone
