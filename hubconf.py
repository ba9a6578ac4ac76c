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
    if package in sys.modules and Path(file or '').resolve().parent != Path(__file__).resolve().parent / package:
        raise ImportError(f'UmURL has a package {package}, but another module of this name is loaded already '
                          f'({file or "from a folder"}): rename that one, or load UmURL in a process of its own')

# torch.hub takes this folder off sys.path after loading: nothing of it can be imported later.
from data_gen.cli import InputError, position  # noqa: E402
from data_gen.joint_maps import AXES, SKELETONS, to_ntu  # noqa: E402
from data_gen.poses import check_poses  # noqa: E402
from data_gen.preprocess import MAX_FRAME, normalize  # noqa: E402
from data_gen.skeleton import SkeletonError, read_xyz, two_liveliest  # noqa: E402
from feeder.dataset import ClipDataset  # noqa: E402
from feeder.modalities import MODALITIES, streams  # noqa: E402
from model.umurl import Backbone  # noqa: E402
from tools.checkpoint import load_model, newest  # noqa: E402
from tools.evaluation.features import extract  # noqa: E402

dependencies = ['numpy', 'torch', 'tqdm']  # torch.hub checks that these are installed


def umurl(checkpoint: str | Path) -> 'ClipEncoder':
    """The encoder of a checkpoint (of pretrain.py or the official code), or of the newest one in a folder."""
    path = Path(checkpoint)
    path = newest(path) or path
    model, config = load_model(path)
    if (size := model.backbone.j_emb.t_embedding[0].in_features) != 150:
        raise InputError(f'{path} takes {size} numbers per frame, not the 150 of two bodies of 25 joints')
    return ClipEncoder(model.backbone, config['modalities'] if config else MODALITIES)


class ClipEncoder(nn.Module):
    """Features of recordings. modalities: those the encoder was pre-trained on.

    `features` takes raw recordings. `forward` takes normalised, resized clips, and gradients flow through it.
    """

    def __init__(self, backbone: Backbone, modalities: Sequence[str]):
        super().__init__()
        self.backbone, self.modalities = backbone, tuple(modalities)

    def forward(self, clips: torch.Tensor, modalities: Sequence[str] | str | None = None) -> torch.Tensor:
        """Features (N, 2H) of clips (N, 64, 2, 25, 3) as `prepare` and `temporal_crop_resize` make them."""
        return self.backbone.encode(streams(clips, self.check_modalities(modalities)))

    def features(self, clips: Sequence, modalities: Sequence[str] | str | None = None, joints: str = 'ntu25',
                 axes: str | None = None, batch_size: int = 64) -> torch.Tensor:
        """Features (N, 2H) float32 of N raw recordings, on the encoder's device, as --save-features writes them.

        modalities: one or several of joint, bone, motion (default: all that the encoder was pre-trained on). The other
        arguments are those of `prepare`; batch_size: clips encoded at a time.
        """
        device = next(self.parameters()).device
        return extract(self.backbone, self.prepare(clips, joints, axes).to(device), self.check_modalities(modalities),
                       batch_size)

    def prepare(self, clips: Sequence, joints: str = 'ntu25', axes: str | None = None) -> ClipDataset:
        """Raw recordings, normalised as the scripts in data_gen/ do: of more than 300 frames, the first 300.

        clips: arrays (T, J, 3) or (T, M, J, 3) in metres, best at 30 frames a second. Of more than two bodies the two
        that move most are taken; a body that is not seen is all zeros. joints: one of data_gen.joint_maps.SKELETONS
        (ntu25, kinect20, coco17, body25, mediapipe33). axes: kinect or image; see data_gen/README.md.
        """
        position(joints, [*SKELETONS], 'skeleton')
        axes = axes or SKELETONS[joints].axes
        position(axes, [*AXES], 'kind of axes')
        frames = []
        for index, clip in enumerate(clips):
            try:
                poses = to_ntu(check_poses(np.asarray(clip), joints), joints, axes)
            except SkeletonError as error:
                raise InputError(f'clip {index}: {error}') from error
            xyz = normalize(two_liveliest(poses.swapaxes(0, 1)), min(len(poses), MAX_FRAME))
            frames.append(torch.from_numpy(xyz).permute(1, 3, 2, 0))
        if not frames:
            raise InputError('there are no clips: give a list of arrays (frames, joints, 3)')
        return ClipDataset(torch.cat(frames).contiguous(), torch.tensor([*map(len, frames)]),
                           torch.zeros(len(frames), dtype=torch.long), [f'clip {n}' for n in range(len(frames))])

    @staticmethod
    def read(path: str | Path) -> np.ndarray:
        """A raw .skeleton file of NTU RGB+D: (T, 2, 25, 3), metres, the body that moves most first."""
        try:
            return read_xyz(path).transpose(1, 3, 2, 0)
        except SkeletonError as error:
            raise InputError(f'{path}: {error}') from error

    def check_modalities(self, modalities: Sequence[str] | str | None) -> list[str]:
        """In the usual order; InputError for one that does not exist or was not trained."""
        names = [modalities] if isinstance(modalities, str) else list(modalities or self.modalities)
        for name in names:
            position(name, self.modalities, 'modality')
        return [name for name in MODALITIES if name in names]
