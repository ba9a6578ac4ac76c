"""A trained encoder in Python, for notebooks and other projects, through torch.hub.

    import numpy as np
    import torch
    encoder = torch.hub.load('path/of/this/folder', 'umurl', source='local', checkpoint='checkpoint_0450.pth.tar')
    query = encoder.features([encoder.read('S001C001P001R001A001.skeleton')])
    known = np.load('features.npz')  # from action_retrieval.py --save-features features.npz
    similarity = torch.cosine_similarity(query, torch.from_numpy(known['train']))
    for clip in similarity.topk(5).indices:
        print(known['train_names'][clip], f'{similarity[clip]:.3f}')

Input that cannot be used raises encoder.InputError; its message says what is wrong and what to do.
"""

import copy
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parent
PACKAGES = ('data_gen', 'feeder', 'model', 'tools')


def loaded_packages(ours: bool) -> dict:
    """The modules in sys.modules that are named like our packages: ours, or those of others."""
    found = {}
    for name, module in sys.modules.items():
        file = Path(getattr(module, '__file__', None) or '/')  # a folder without __init__ has none
        if name.split('.')[0] in PACKAGES and file.resolve().is_relative_to(FOLDER) == ours:
            found[name] = module
    return found


@contextmanager
def own_packages() -> Iterator[None]:
    """Import our packages although another project's of the same names may be loaded.

    Those are put aside until the end. Ours are then forgotten, so that importing `model` never
    gives another project ours, unless they were in use before.
    """
    in_use, others = loaded_packages(ours=True), loaded_packages(ours=False)
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        for name in [] if in_use else loaded_packages(ours=True):
            del sys.modules[name]
        sys.modules.update(others)


with own_packages():
    from data_gen.joint_maps import AXES, SKELETONS
    from data_gen.meaning import CLIPS, find_flaws
    from data_gen.poses import check_poses
    from data_gen.preprocess import MAX_FRAME, normalize
    from data_gen.skeleton import SkeletonError, read_recording
    from data_gen.tracks import Poses, to_clip
    from feeder.dataset import ClipDataset
    from feeder.feeders import downstream_batches
    from feeder.modalities import MODALITIES
    from model.umurl import Backbone
    from tools.checkpoint import load_model, newest
    from tools.common.cli import InputError, position

dependencies = ['numpy', 'torch', 'tqdm']  # torch.hub checks that these are installed


def umurl(checkpoint: str | Path) -> 'ClipEncoder':
    """The encoder of a checkpoint (of pretrain.py or the official code), or of the newest one in a
    folder.
    """
    given = Path(checkpoint).expanduser()
    path = newest(given) or given
    with torch.random.fork_rng(devices=[]):  # a new model draws its weights
        model, config = load_model(path)
    if (size := model.backbone.t_input_size) != 150:
        raise InputError(
            f'{path} takes {size} numbers per frame, not the 150 of two bodies of 25 joints'
        )
    return ClipEncoder(
        model.backbone, config['modalities'] if config else model.backbone.modalities
    )


def unpickled(settings: dict, modalities: Sequence[str], training: bool, state: dict):
    """The encoder that was pickled; see `ClipEncoder.__reduce__`."""
    with torch.device('meta'):
        encoder = ClipEncoder(Backbone(**settings), modalities)
    encoder.load_state_dict(state, assign=True)
    return encoder.train(training)


class ClipEncoder(nn.Module):
    """Features of raw recordings. modalities: those that the encoder was pre-trained on.

    It computes in the dtype of its weights. It can be copied and pickled; to load what was pickled,
    this folder must be where it was.
    """

    InputError = InputError
    read = staticmethod(read_recording)  # a raw .skeleton file -> (T, 2, 25, 3), metres

    def __init__(self, backbone: Backbone, modalities: Sequence[str]):
        super().__init__()
        self.backbone, self.modalities = backbone, tuple(modalities)
        self.shown = set()  # warnings

    def features(
        self,
        clips: Sequence,
        modalities: Sequence[str] | str | None = None,
        joints: str = 'ntu25',
        axes: str | None = None,
        batch_size: int = 64,
        turn: bool = False,
        pixels: bool = False,
    ) -> torch.Tensor:
        """Features (N, 2H) of N recordings, on the encoder's device, as --save-features writes
        them. No gradients.

        clips: a list of arrays (T, J, 3) or (T, M, J, 3) in metres, best at 30 frames a second. One
        array alone is one clip if it has three dimensions, or four with M at most 2; other arrays
        (N, T, J, 3) and (N, T, M, J, 3) are N clips. They are normalised as in data_gen/: of more
        than 300 frames the first 300 are taken, of more than two bodies the two that move most; a
        body that is not seen is all zeros. modalities: of those the checkpoint holds (default: all that
        were trained).
        joints, axes, turn, pixels: as the flags of data_gen/custom_gendata.py. What is
        probably wrong with the clips is printed, once for each encoder. Gaps are filled as there, so
        features of a .skeleton file with gaps differ a little from those of --save-features.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f'batch_size {batch_size} is not a whole number from 1 up')
        with torch.no_grad():
            return torch.cat(
                [*self.encode(clips, modalities, joints, axes, turn, pixels, batch_size)]
            )

    def forward(
        self,
        clips: Sequence,
        modalities: Sequence[str] | str | None = None,
        joints: str = 'ntu25',
        axes: str | None = None,
        turn: bool = False,
        pixels: bool = False,
    ) -> torch.Tensor:
        """The same for all clips as one batch, with gradients, to train the encoder further."""
        return next(self.encode(clips, modalities, joints, axes, turn, pixels, sys.maxsize))

    def encode(
        self, clips, modalities, joints, axes, turn, pixels, batch_size
    ) -> Iterator[torch.Tensor]:
        """Yield the features of one batch after another."""
        modalities = [modalities] if isinstance(modalities, str) else modalities or self.modalities
        for name in modalities:
            position(name, self.modalities, 'modality')
        subset = [name for name in MODALITIES if name in modalities]  # in the usual order
        position(joints, [*SKELETONS], 'skeleton')
        axes = axes or SKELETONS[joints].axes
        position(axes, [*AXES], 'kind of axes')
        prepared = [
            prepare(index, clip, joints, axes, turn, pixels)
            for index, clip in enumerate(split(clips))
        ]
        if not prepared:
            raise InputError('there are no clips: give a list of arrays (frames, joints, 3)')
        recordings, frames = zip(*prepared, strict=True)
        for flaw in find_flaws(recordings[:CLIPS]):
            if flaw not in self.shown:
                print(f'warning: {in_python(flaw)}', file=sys.stderr)
            self.shown.add(flaw)
        lengths = torch.tensor([*map(len, frames)])
        dataset = ClipDataset(torch.cat(frames), lengths, torch.zeros(len(frames)), [])
        weights = next(self.parameters())
        everyone = torch.arange(len(dataset))
        dataset = dataset.to(weights.device)
        for found, parts in downstream_batches(dataset, batch_size, subset, clips=everyone):
            converted = [
                {name: [stream.to(weights.dtype) for stream in pair] for name, pair in part.items()}
                for part in parts
            ]
            yield self.backbone.encode(*converted)[found.argsort()]

    def __deepcopy__(self, memo: dict) -> 'ClipEncoder':
        twin = ClipEncoder.__new__(ClipEncoder)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce__(self):
        """Pickled as folder, configuration and weights: no module of the name of this class's can
        be imported.
        """
        names = ('t_input_size', 's_input_size', 'hidden_size', 'num_head', 'modalities')
        settings = {name: getattr(self.backbone, name) for name in names}
        settings['num_layer'] = len(self.backbone.ma_encoder.t_tr.layers)
        saved = settings, self.modalities, self.training, self.state_dict()
        return partial(torch.hub.load, source='local'), (str(FOLDER), 'unpickled', *saved)


def in_python(message: str) -> str:
    """A message of data_gen/ with the arguments of `ClipEncoder.features` in place of the flags."""
    message = message.replace('--drop-score', 'clip[..., :2]')
    message = re.sub(r'--(joints|axes) (\w+)', r"\1='\2'", message)
    return re.sub('--(pixels|turn)', r'\1=True', message)


def split(clips) -> list:
    """The clips of a list, or of one array of one clip or several; see `ClipEncoder.features`."""
    shape = getattr(clips, 'shape', ())
    one = len(shape) == 3 or len(shape) == 4 and shape[1] <= 2
    if one or isinstance(clips, str | os.PathLike):
        return [clips]
    try:
        return list(clips)
    except TypeError as error:
        raise InputError(f'clips: expected a list of arrays, not {clips}') from error


def prepare(
    index: int, clip, joints: str, axes: str, turn: bool, pixels: bool
) -> tuple[Poses, torch.Tensor]:
    """The recording number `index`, and the same normalised: (T, 2, 25, 3) float32."""
    if isinstance(clip, str | os.PathLike):
        raise InputError(f'clip {index} is a path: give encoder.read({str(clip)!r})')
    if np.ma.isMaskedArray(clip):
        raise InputError(f'clip {index} is a masked array: give clip.filled(0)')
    try:
        poses = Poses(check_poses(np.asarray(clip), joints, pixels=pixels), joints, axes, turn=turn)
        xyz, _ = to_clip(poses)
    except (SkeletonError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f'clip {index}: {in_python(str(error))}') from error
    xyz = normalize(xyz, min(xyz.shape[1], MAX_FRAME))
    return poses, torch.from_numpy(xyz.transpose(1, 3, 2, 0).copy())
