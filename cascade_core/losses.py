"""Equations 1 to 7 of the paper (section 3.2), each function named by its number.

Images are ``(N, 3, H, W)`` in [0, 1], scores ``(N,)``; every loss is a scalar, the mean over the batch.
"""

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import center_crop

from cascade_core.conventions import check_tensor

Losses = dict[str, Tensor]  # by name


def mse_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all pixels, hole and context alike, and channels (equation 1)."""
    check_tensor(output, "the output", target.shape)  # broadcasting would hide a mistake
    return F.mse_loss(output, target)


# VGG-16's `features` indices of relu1_2, relu2_2, relu3_3 and relu4_3, the maps before the first four pooling layers
TAPS = (3, 8, 15, 22)

# Mean and standard deviation of the input, as in the network's training: others make wrong features without an error
NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
}


class PerceptualLoss(nn.Module):
    """Mean squared distance between VGG-16 feature maps (equations 2 and 3).

    Args:
        weights: ``"caffe"``, the authors' own, and ``"imagenet"``, torchvision's training, are downloaded once;
            ``"random"``, drawn from ``seed``, needs no network. Or ``"caffe:PATH"`` or ``"imagenet:PATH"``, a state
            dict of torchvision's VGG-16 (``.safetensors``, ``.pth``) and the normalization that its training wants; a
            PATH alone must name it in its header, as ``convention``.
        side: of the square in the center that is compared, px; ``None`` compares the whole images.

    Shape: two batches ``(N, 3, H, W)`` in [0, 1], H and W at least 8, to a scalar.

    Raises:
        RuntimeError: the weights cannot be had, or their normalization is unknown; the message names the other choices.

    Reference: Johnson et al. 2016 for the loss, Simonyan and Zisserman 2015 for the network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str = "imagenet", seed: int = 0, side: int | None = None) -> None:
        super().__init__()
        self.weights, self.side = str(weights), side
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.features = make_layers(cfgs["D"], batch_norm=False)[: TAPS[-1] + 1]
            for module in self.features:
                if isinstance(module, nn.Conv2d) and module.bias is not None:  # torchvision's own initialization of VGG
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.ReLU):
                    module.inplace = False  # an in-place ReLU of the next layer would overwrite what was tapped
        convention = "imagenet"  # which random features keep, to be comparable
        if self.weights != "random":
            state, convention = _vgg_state(self.weights)
            self.features.load_state_dict(state)
        self.requires_grad_(False).eval()
        for name, values in zip(("mean", "std"), NORMALIZATIONS[convention], strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        check_tensor(output, "the output", target.shape)
        if self.side:
            square = [self.side, self.side]
            output, target = center_crop(output, square), center_crop(target, square)
        with torch.no_grad():
            wanted = self.maps(target)
        distances = [F.mse_loss(a, b) for a, b in zip(self.maps(output), wanted, strict=True)]
        return torch.stack(distances).mean()

    def maps(self, images: Tensor, taps: tuple[int, ...] = TAPS) -> list[Tensor]:
        """The maps of the taps: 64, 128, 256, 512 channels at 1, 1/2, 1/4, 1/8 of the size.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].
            taps: indices of torchvision's ``features``, rising, up to relu4_3's.
        """
        x = (images - self.mean) / self.std
        maps = []
        for index, layer in enumerate(self.features[: taps[-1] + 1]):
            x = layer(x)
            if index in taps:
                maps.append(x)
        return maps


def _vgg_state(weights: str) -> tuple[dict[str, Tensor], str]:
    """The convolutions up to relu4_3 of a trained VGG-16, by torchvision's names, and their training's convention."""
    others = 'choose perceptual weights "random", or "caffe:PATH" or "imagenet:PATH" of a VGG-16 state dict'
    convention, colon, path = weights.partition(":")
    path = path if colon and convention in NORMALIZATIONS else weights
    try:
        if weights in NORMALIZATIONS:
            trained = {"imagenet": VGG16_Weights.IMAGENET1K_V1, "caffe": VGG16_Weights.IMAGENET1K_FEATURES}[weights]
            state = trained.get_state_dict(progress=False, check_hash=True)
        elif path.endswith(".safetensors"):
            state = load_file(path)
            if path == weights:
                with safe_open(path, "pt") as file:
                    convention = (file.metadata() or {}).get("convention", "")
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # no network, no file, a broken file: whatever it was, say what to do
        raise RuntimeError(f"the VGG-16 weights {weights} cannot be had ({error}); {others}") from error
    wanted = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    wanted = {k: v for k, v in wanted.items() if int(k.split(".")[0]) <= TAPS[-1]}
    if len(wanted) != 20:  # ten convolutions, a weight and a bias each
        raise RuntimeError(f"{weights} is not a state dict of torchvision's VGG-16 (features.0.weight, ...); {others}")
    if convention not in NORMALIZATIONS:
        raise RuntimeError(f"{weights} does not say which normalization of the input its training used; {others}")
    return wanted, convention


def critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What the critic minimizes: E[D(fake)] - E[D(real)] (equation 5).

    Example:
        >>> critic_loss(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]))
        tensor(-1.5000)
    """
    return fake_scores.mean() - real_scores.mean()


def adversarial_loss(fake_scores: Tensor) -> Tensor:
    """What the generator minimizes: -E[D(fake)] (equation 6)."""
    return -fake_scores.mean()


class GeneratorLoss(nn.Module):
    """The weighted sum of mean squared error, perceptual and adversarial loss (equation 7), and its parts unweighted.

    Args:
        mse, perceptual, adversarial: the three weights, lambda_MSE, lambda_per and lambda_D.
        features: the perceptual loss to use; ``None`` only if its weight is 0.
    """

    def __init__(self, mse: float, perceptual: float, adversarial: float, features: PerceptualLoss | None) -> None:
        super().__init__()
        if perceptual and features is None:
            raise ValueError(f"a perceptual weight of {perceptual} needs a PerceptualLoss, got None")
        self.weights = {"mse": mse, "perceptual": perceptual, "adversarial": adversarial}
        self.features = features

    def forward(self, output: Tensor, target: Tensor, scores: Tensor) -> tuple[Tensor, Losses]:
        parts = {"mse": mse_loss(output, target), "adversarial": adversarial_loss(scores)}
        if self.features is not None and self.weights["perceptual"]:
            parts["perceptual"] = self.features(output, target)
        weighted = [self.weights[name] * part for name, part in parts.items()]
        return torch.stack(weighted).sum(), parts
