"""Whole pages from windows against a plain loop, MONAI, and by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from models.conformance import check_odd_pages
from models.deeplabv3 import DeepLabV3
from models.fcn import FCN
from models.resunet_cbam import ResUNetCBAM
from models.segmentation import SegmentationModule
from models.windows import predict_page, prepare, to_mask, window_starts


def ink_page(height, width, density=0.1):
    return (torch.rand(height, width, generator=torch.Generator().manual_seed(0)) < density).float()


def with_statistics(module):
    """Running statistics and scales of the norms away from their start, as after training."""
    torch.manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    module.train()
    with torch.no_grad():
        for _ in range(2):
            module((torch.rand(4, 1, 64, 64) < 0.1).float())
    return module


def plain_loop(module, page, size_px, overlap_px):
    """The definition, one window at a time, with nothing done to the network."""
    height, width = page.shape
    padded = torch.zeros(max(height, size_px), max(width, size_px))
    padded[:height, :width] = page
    total, count = np.zeros(padded.shape), np.zeros(padded.shape)
    module.eval()
    for row in window_starts(height, size_px, overlap_px):
        for column in window_starts(width, size_px, overlap_px):
            window = padded[row : row + size_px, column : column + size_px]
            with torch.no_grad():
                probability = torch.sigmoid(module(window[None, None]))[0, 0]
            total[row : row + size_px, column : column + size_px] += probability.numpy()
            count[row : row + size_px, column : column + size_px] += 1
    return (total / count)[:height, :width]


class PixelNet(SegmentationModule):
    """Each pixel's logit is its own ink, scaled: the stitched page is known."""

    needs_training = False

    def build_net(self):
        return nn.Identity()

    def forward(self, images):
        return torch.logit(images.clamp(1e-4, 1 - 1e-4))


@pytest.mark.parametrize(
    "make", [lambda: ResUNetCBAM(width=16), FCN, DeepLabV3], ids=["resunet", "fcn", "deeplabv3"]
)
def test_page_equals_the_plain_loop(make):
    torch.manual_seed(0)
    module, page = with_statistics(make()), ink_page(150, 201)
    page[:, :70] = 0  # some windows of bare paper
    got = predict_page(module, page, size_px=64, overlap_px=32)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), plain_loop(module, page, 64, 32), atol=1e-5)


def test_paper_windows_equal_the_plain_loop():
    torch.manual_seed(0)
    module, page = with_statistics(ResUNetCBAM(width=16)), ink_page(140, 200)
    np.testing.assert_allclose(
        predict_page(module, page).numpy(), plain_loop(module, page, 128, 64), atol=1e-5
    )


def test_page_equals_monai():
    monai = pytest.importorskip("monai.inferers")
    torch.manual_seed(0)
    module, page = with_statistics(ResUNetCBAM(width=16)).eval(), ink_page(192, 256)
    with torch.no_grad():
        wanted = monai.sliding_window_inference(
            page[None, None], (128, 128), 4, module.probabilities, overlap=0.5
        )
    torch.testing.assert_close(predict_page(module, page), wanted[0, 0], rtol=0, atol=1e-5)


def test_batch_size_does_not_change_the_result():
    torch.manual_seed(0)
    ready, page = prepare(with_statistics(ResUNetCBAM(width=16))), ink_page(150, 201)
    pages = [predict_page(ready, page, size_px=64, overlap_px=32, batch=batch) for batch in (1, 7, 64)]
    for other in pages[1:]:
        torch.testing.assert_close(other, pages[0], rtol=0, atol=1e-5)


def test_overlaps_are_averaged_and_every_pixel_is_covered():
    page = torch.rand(300, 290, generator=torch.Generator().manual_seed(0)).clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(predict_page(PixelNet(), page), page, rtol=0, atol=1e-6)


def test_constant_probability_survives_stitching_exactly():
    """Nine windows of 0.15 must average to 0.15, or pixels at the threshold would be lost."""

    class Constant(PixelNet):
        def probabilities(self, images):
            return torch.full_like(images, 0.15)

    probability = predict_page(Constant(), ink_page(200, 333))
    assert bool((probability == torch.tensor(0.15)).all())
    assert bool(to_mask(probability, 0.15).all())


def test_mask_takes_the_threshold_itself():
    probability = torch.tensor([[0.1499, 0.15, 0.1501]])
    assert to_mask(probability, 0.15).tolist() == [[False, True, True]]
    assert to_mask(probability, 0.15).dtype == torch.bool


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (127, 128), (128, 128), (129, 127)])
def test_page_of_any_size_keeps_its_size(shape):
    page = torch.rand(shape, generator=torch.Generator().manual_seed(0)).clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(predict_page(PixelNet(), page), page, rtol=0, atol=1e-6)


def test_short_page_is_padded_with_paper():
    torch.manual_seed(0)
    module, page = with_statistics(ResUNetCBAM(width=16)), ink_page(40, 50)
    padded = torch.zeros(128, 128)
    padded[:40, :50] = page
    torch.testing.assert_close(predict_page(module, page), predict_page(module, padded)[:40, :50])


def test_bytes_are_ink_over_255():
    page = np.random.default_rng(0).integers(0, 256, (140, 130), dtype=np.uint8)
    wanted = predict_page(PixelNet(), torch.from_numpy(page).float() / 255)
    torch.testing.assert_close(predict_page(PixelNet(), page), wanted)


def test_bare_paper_is_computed_once():
    calls = []

    class Counting(PixelNet):
        def probabilities(self, images):
            calls.append(len(images))
            return super().probabilities(images)

    page = torch.zeros(512, 512)
    page[300, 300] = 1.0
    predict_page(Counting(), page, batch=4)
    assert sum(calls) == 1 + 4


def test_module_is_left_as_it_was():
    module = with_statistics(ResUNetCBAM(width=16)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    predict_page(module, ink_page(64, 64), size_px=64, overlap_px=32)
    assert module.training
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in before.items())
    assert all(tensor.is_contiguous() for tensor in module.state_dict().values())


def test_norms_are_folded_where_that_is_exact():
    torch.manual_seed(0)
    ready = prepare(with_statistics(ResUNetCBAM(width=16)))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in ready.modules())


class UsesAConvolutionTwice(SegmentationModule):
    """Reads a convolution's output before and after its norm: folding would change it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

        def forward(self, images):
            features = self.conv(images)
            return features + self.norm(features)

    def build_net(self):
        return self.Net()


def test_norms_stay_where_folding_would_change_the_result():
    torch.manual_seed(0)
    module, page = with_statistics(UsesAConvolutionTwice()), ink_page(70, 90)
    ready = prepare(module)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in ready.modules())
    got = predict_page(ready, page, size_px=64, overlap_px=32)
    np.testing.assert_allclose(got.numpy(), plain_loop(module, page, 64, 32), atol=1e-6)


def test_method_without_weights_works_on_any_device_and_size():
    check_odd_pages(PixelNet)


@pytest.mark.parametrize(
    ("length", "wanted"),
    [(1, [0]), (128, [0]), (129, [0, 1]), (192, [0, 64]), (200, [0, 64, 72]), (300, [0, 64, 128, 172])],
)
def test_window_starts(length, wanted):
    assert window_starts(length) == wanted


def test_papers_page_has_221_windows():
    rows, columns = window_starts(886), window_starts(1120)
    assert (len(rows), len(columns)) == (13, 17)
    assert (rows[-2:], columns[-2:]) == ([704, 758], [960, 992])


@pytest.mark.parametrize("overlap_px", [0, 32, 64, 96, 127])
@pytest.mark.parametrize("length", [1, 100, 128, 150, 256, 257])
def test_windows_cover_everything_and_stay_inside(length, overlap_px):
    starts = window_starts(length, 128, overlap_px)
    covered = {pixel for start in starts for pixel in range(start, start + 128)}
    assert covered == set(range(max(length, 128)))
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("wrong", [(0, 128, 64), (100, 0, 0), (100, 128, 128), (100, 128, -1)])
def test_impossible_windows_are_refused(wrong):
    with pytest.raises(ValueError, match=r"got .*; wanted"):
        window_starts(*wrong)


def test_wrong_pages_are_refused():
    with pytest.raises(ValueError, match="wanted \\(H, W\\)"):
        predict_page(PixelNet(), torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="wanted \\(H, W\\)"):
        predict_page(PixelNet(), torch.zeros(0, 8))
    with pytest.raises(TypeError, match="wanted uint8"):
        predict_page(PixelNet(), torch.zeros(8, 8, dtype=torch.int64))
