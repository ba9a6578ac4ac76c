"""A trained encoder in Python, for notebooks and other projects, through torch.hub.

    import numpy as np
    import torch
    encoder = torch.hub.load('path/of/this/folder', 'umurl', source='local', checkpoint='checkpoint_0450.pth.tar')
    query = encoder.features([encoder.read('S001C001P001R001A001.skeleton')])
    known = np.load('features.npz')  # from action_retrieval.py --save-features features.npz
    similarity = torch.cosine_similarity(query, torch.from_numpy(known['train']))
    for clip in similarity.topk(5).indices:
        print(known['train_names'][clip], f'{similarity[clip]:.3f}')

Input that cannot be used raises InputError; its message says what is wrong and what to do.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

for package in ('data_gen', 'feeder', 'model', 'tools'):
    file = getattr(sys.modules.get(package), '__file__', None)
    if (
        package in sys.modules
        and Path(file or '').resolve().parent != Path(__file__).resolve().parent / package
    ):
        raise ImportError(
            f'UmURL has a package {package}, but another module of this name is loaded already '
            f'({file or "from a folder"}): rename that one, or load UmURL in a process of its own'
        )

# torch.hub takes this folder off sys.path after loading: nothing of it can be imported later.
from data_gen.joint_maps import AXES, SKELETONS, to_ntu  # noqa: E402
from data_gen.poses import check_poses  # noqa: E402
from data_gen.preprocess import MAX_FRAME, normalize  # noqa: E402
from data_gen.skeleton import SkeletonError, read_recording, two_liveliest  # noqa: E402
from feeder.dataset import ClipDataset  # noqa: E402
from feeder.modalities import MODALITIES  # noqa: E402
from model.umurl import Backbone  # noqa: E402
from tools.checkpoint import load_model, newest  # noqa: E402
from tools.common.cli import InputError, position  # noqa: E402
from tools.evaluation.features import extract_subsets  # noqa: E402

dependencies = ['numpy', 'torch', 'tqdm']  # torch.hub checks that these are installed


def umurl(checkpoint: str | Path) -> 'ClipEncoder':
    """The encoder of a checkpoint (of pretrain.py or the official code), or of the newest one in a
    folder.
    """
    path = newest(Path(checkpoint)) or Path(checkpoint)
    model, config = load_model(path)
    if (size := model.backbone.t_input_size) != 150:
        raise InputError(
            f'{path} takes {size} numbers per frame, not the 150 of two bodies of 25 joints'
        )
    return ClipEncoder(
        model.backbone, config['modalities'] if config else model.backbone.modalities
    )


class ClipEncoder(nn.Module):
    """Features of raw recordings. modalities: those that the encoder was pre-trained on."""

    read = staticmethod(read_recording)  # a raw .skeleton file -> (T, 2, 25, 3), metres

    def __init__(self, backbone: Backbone, modalities: Sequence[str]):
        super().__init__()
        self.backbone, self.modalities = backbone, tuple(modalities)

    def features(
        self,
        clips: Sequence,
        modalities: Sequence[str] | str | None = None,
        joints: str = 'ntu25',
        axes: str | None = None,
        batch_size: int = 64,
    ) -> torch.Tensor:
        """Features (N, 2H) float32 of N recordings, on the encoder's device, as --save-features
        writes them.

        clips: arrays (T, J, 3) or (T, M, J, 3) in metres, best at 30 frames a second. They are
        normalised as in data_gen/: of more than 300 frames the first 300 are taken, of more than
        two bodies the two that move most; a body that is not seen is all zeros. modalities: of
        joint, bone and motion (default: all that were trained).
        joints: ntu25, kinect20, coco17, body25 or mediapipe33. axes: kinect or image (see
        data_gen/README.md).
        """
        modalities = [modalities] if isinstance(modalities, str) else modalities or self.modalities
        for name in modalities:
            position(name, self.modalities, 'modality')
        position(joints, [*SKELETONS], 'skeleton')
        axes = axes or SKELETONS[joints].axes
        position(axes, [*AXES], 'kind of axes')
        frames = [self.prepare(index, clip, joints, axes) for index, clip in enumerate(clips)]
        if not frames:
            raise InputError('there are no clips: give a list of arrays (frames, joints, 3)')
        dataset = ClipDataset(
            torch.cat(frames), torch.tensor([*map(len, frames)]), torch.zeros(len(frames)), []
        )
        subset = tuple(name for name in MODALITIES if name in modalities)  # in the usual order
        return extract_subsets(
            self.backbone, dataset.to(next(self.parameters()).device), [subset], batch_size
        )[subset]

    forward = features

    @staticmethod
    def prepare(index: int, clip, joints: str, axes: str) -> torch.Tensor:
        """The recording number `index`, normalised: (T, 2, 25, 3) float32."""
        try:
            poses = to_ntu(check_poses(np.asarray(clip), joints), joints, axes)
        except SkeletonError as error:
            raise InputError(f'clip {index}: {error}') from error
        xyz = normalize(two_liveliest(poses.swapaxes(0, 1)), min(len(poses), MAX_FRAME))
        return torch.from_numpy(xyz.transpose(1, 3, 2, 0).copy())
