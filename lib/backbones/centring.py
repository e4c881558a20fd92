"""Where the cells of a trunk's map lie in the image: near 16 u, ceil(side / 16) of them, for every trunk and size.

TensorFlow's "same" padding, with which efficientnet_lite0 was trained, depends on the parity of every map: the centre
of cell u is pixel 16 u in an image of 353 pixels, 16 u + 7 in one of 360 and 16 u + 15 in one of 480. torchvision's
AlexNet pads less than half the kernel, which puts its cells at 16 u + 15, and its VGG-16 drops the last odd row of a
map. Once centred, cell u lies at pixel 16 u, with VGG-16 at 16 u + 7.5 (`Backbone.first`), which RoIAlign reads; the
rounding of RoI pooling presumes 16 u, the authors' anchors 16 u + 7.5, and anchors that the image's size gives the
number of cells. The authors' networks are so: Caffe's pooling rounds up, and Fast R-CNN's CaffeNet pads conv1 by 5 and
its pooling layers by 1.
"""

from torch import nn

from lib.backbones.backbones import Backbone


def centre(backbone: Backbone) -> Backbone:
    """Gives the layers of the trunk and those of stride 32 symmetric padding, in place; tensors and their names stay.

    returns : the backbone, whose map of stride s has ceil(side / s) cells along a side of the image

    Convolutions and poolings of odd kernel are padded by half of it, poolings of even kernel round up.
    """
    for module in [*backbone.trunk.modules(), *backbone.crop_map.modules()]:
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d:
                layer = _plain(layer)
                setattr(module, name, layer)
            if isinstance(layer, nn.Conv2d):
                layer.padding = tuple(side // 2 for side in layer.kernel_size)
            elif isinstance(layer, nn.MaxPool2d):
                side = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
                layer.padding, layer.ceil_mode = (side // 2, layer.ceil_mode) if side % 2 else (0, True)
    return backbone


def _plain(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without its own way of padding."""
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels,
        layer.kernel_size, layer.stride,  # type: ignore[arg-type]
        groups=layer.groups, bias=layer.bias is not None, device="meta",
    )
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain
