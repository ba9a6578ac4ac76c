"""The encoder through torch.hub: as another project loads it, and its methods."""

import copy
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import action_retrieval
import hubconf
from data_gen import custom_gendata
from data_gen.demo_recordings import ACTIONS, draw_bones, perform
from data_gen.joint_maps import SKELETONS, matrix
from tools.common.cli import InputError


@pytest.fixture
def saved(tmp_path, save_untrained):
    """saved(**more): the path of a checkpoint of width 8 that was not trained, with more entries."""
    return partial(save_untrained, tmp_path / 'checkpoint_0450.pth.tar')


@pytest.fixture
def encoder(saved):
    return hubconf.umurl(saved())


def people(frames, bodies=1, seed=0):
    """Recordings (T, M, 25, 3) of random joints that move, 3 m away."""
    rng = np.random.default_rng(seed)
    return rng.normal((0, 0, 3), 0.25, (1, bodies, 25, 3)) + rng.normal(
        0, 0.03, (frames, bodies, 25, 3)
    )


def test_from_a_raw_file_to_its_five_nearest_neighbours(tmp_path, saved, write_skeleton):
    """The lines in the docstring, run in another project's folder; features are those of
    --save-features.
    """
    for number in range(8):
        bodies = people(
            40 + 40 * number, 1 + number % 3, number
        )  # also longer than 300 frames, and a third body
        write_skeleton(
            tmp_path / f'S001C001P00{1 + number}R001A001.skeleton', list(map(list, bodies))
        )
    lines = [
        f'S001C001P00{1 + number}R001A001.skeleton,sit,{"train" if number < 6 else "val"}'
        for number in range(8)
    ]
    (tmp_path / 'list.csv').write_text('\n'.join(['path,label,split', *lines]))
    custom_gendata.main(
        [
            '--recordings',
            str(tmp_path / 'list.csv'),
            '--out_folder',
            str(tmp_path / 'data/custom'),
            '--workers',
            '1',
        ]
    )
    action_retrieval.main(
        [
            '--pretrained',
            str(saved()),
            '--finetune-dataset',
            'custom',
            '--data-root',
            str(tmp_path / 'data'),
            '--save-features',
            str(tmp_path / 'features.npz'),
            '--device',
            'cpu',
        ]
    )
    example = re.search(r'\n((    .*\n)+)', hubconf.__doc__)[1].replace('\n    ', '\n').strip()
    assert len(example.splitlines()) <= 10
    check = """
clips = [encoder.read(f'S001C001P00{number}R001A001.skeleton') for number in range(1, 9)]
np.save('made.npy', encoder.features(clips))
np.save('one_by_one.npy', torch.cat([encoder.features([clip]) for clip in clips]))
torch.hub.load('path/of/this/folder', 'umurl', source='local', checkpoint='checkpoint_0450.pth.tar')  # again"""
    script = (example + check).replace(
        'path/of/this/folder', str(Path(hubconf.__file__).resolve().parent)
    )
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    names, similarities = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert len(set(names)) == 5
    assert names[0] == 'S001C001P001R001A001.skeleton'  # itself
    assert float(similarities[0]) == pytest.approx(1, abs=1e-3)
    assert list(map(float, similarities)) == sorted(map(float, similarities), reverse=True)
    with np.load(tmp_path / 'features.npz') as known:
        wanted = np.concatenate([known['train'], known['val']])
    for name in ('made', 'one_by_one'):
        np.testing.assert_allclose(np.load(tmp_path / f'{name}.npy'), wanted, atol=1e-5)


THEIRS = {  # another project, as 2s-AGCN and others are laid out; `tools` is a folder of files
    'model/__init__.py': '',
    'model/agcn.py': 'from model import helpers\nfrom tools.shapes import NAME',
    'model/helpers.py': '',
    'feeder/__init__.py': 'NAME = "their feeder"',
    'tools/shapes.py': 'NAME = "their tools"',
    'hubconf.py': 'from model.agcn import NAME\ndef theirs():\n    return NAME\n',
}
IMPORT_THEIRS = """
import sys
sys.path.insert(0, '.')
import feeder, model.agcn, model.helpers, tools.shapes
assert feeder.NAME == 'their feeder'
assert model.agcn.NAME == 'their tools'
"""
LOAD_THEIRS = "assert torch.hub.load('.', 'theirs', source='local') == 'their tools'\n"
LOAD_OURS = """
encoder = torch.hub.load(OURS, 'umurl', source='local', checkpoint=CHECKPOINT)
features = encoder.features(np.load('clip.npy'))
try:
    encoder.features([])
except encoder.InputError:
    pass
"""
STILL_THEIRS = """
assert sys.modules['model.agcn'] is model.agcn
assert sys.modules['tools'] is tools
import model.helpers
"""


@pytest.mark.parametrize(
    'lines',
    [
        IMPORT_THEIRS + LOAD_OURS + STILL_THEIRS,
        LOAD_OURS + IMPORT_THEIRS,
        LOAD_OURS + LOAD_THEIRS,
        LOAD_THEIRS + LOAD_OURS + LOAD_THEIRS,
        LOAD_OURS + IMPORT_THEIRS + LOAD_OURS + STILL_THEIRS,
    ],
)
def test_beside_another_project_and_another_hub(tmp_path, saved, encoder, lines):
    for name, text in THEIRS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    np.save(tmp_path / 'clip.npy', people(30))
    run_elsewhere(
        tmp_path, f'CHECKPOINT = {str(saved())!r}', lines, "np.save('made.npy', features)"
    )
    made = np.load(tmp_path / 'made.npy')
    np.testing.assert_allclose(made, encoder.features(people(30)), atol=1e-5)


def run_elsewhere(folder, *lines):
    """Run lines of Python in a folder, in a process that knows where our project is, as OURS."""
    first = [
        'import numpy as np, torch',
        f'OURS = {str(Path(hubconf.__file__).resolve().parent)!r}',
    ]
    done = subprocess.run(
        [sys.executable, '-c', '\n'.join([*first, *lines])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_in_use_stays():
    """Beside our own modules, as in a notebook in this folder, all have one InputError."""
    assert hubconf.InputError is InputError
    assert sys.modules['tools.common.cli'].InputError is InputError


def test_saved_with_torch_and_loaded_in_another_process(tmp_path, encoder):
    trained = encoder.train().double()
    torch.save(trained, tmp_path / 'encoder.pt')
    np.save(tmp_path / 'clip.npy', people(30))
    run_elsewhere(
        tmp_path,
        "encoder = torch.load('encoder.pt', weights_only=False)",
        'assert encoder.training and encoder.modalities == ("joint", "bone", "motion")',
        "np.save('made.npy', encoder.features(np.load('clip.npy')))",
    )
    made = np.load(tmp_path / 'made.npy')
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, trained.features(people(30)), atol=1e-12)


def test_a_deep_copy_has_its_own_weights_and_keeps_what_was_added(encoder):
    clip = people(30)
    encoder.head = torch.nn.Linear(16, 3)
    twin = copy.deepcopy(encoder)
    assert twin.features(clip).equal(encoder.features(clip))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin.head.weight.any() != encoder.head.weight.any()
    assert not twin.features(clip).equal(encoder.features(clip))


def test_loading_does_not_move_the_random_numbers(saved):
    path = saved()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    hubconf.umurl(path)
    assert torch.rand(2).equal(expected)


def test_training_through_the_encoder_moves_it(encoder):
    """A head and the encoder learn to tell four recordings apart; in `features` nothing would."""
    clips = [people(30, seed=seed) for seed in range(4)]
    labels = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 2)
    before = copy.deepcopy(encoder)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
    losses = []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(head(encoder(clips)), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert not encoder.features(clips).allclose(before.features(clips), atol=1e-3)
    head(encoder.features(clips)).sum().backward()  # a head alone can be trained on them


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-5), (torch.float16, 0.02), (torch.bfloat16, 0.2)]
)
def test_another_dtype(encoder, dtype, tolerance):
    clip = people(30)
    expected = encoder.features(clip)
    made = encoder.to(dtype).features(clip)
    assert made.dtype == encoder(clip).dtype == dtype
    torch.testing.assert_close(made.float(), expected, atol=tolerance, rtol=tolerance)


def test_another_default_dtype(saved):
    path = saved()
    torch.set_default_dtype(torch.float64)
    try:
        made = hubconf.umurl(path).features(people(30))
    finally:
        torch.set_default_dtype(torch.float32)
    expected = hubconf.umurl(path).features(people(30))
    torch.testing.assert_close(made.float(), expected, rtol=1e-4, atol=1e-5)


def test_one_array_may_be_one_clip_or_several(encoder):
    two = np.stack([people(30), people(30, seed=1)])  # (N, T, M, J, 3), M = 1
    expected = encoder.features(list(two))
    assert expected.shape == (2, 16)
    for array in (two, two[:, :, 0], torch.from_numpy(two), two.repeat(3, 2)[:, :, :1]):
        assert encoder.features(array).equal(expected)
    for clip in (two[0], two[0, :, 0], torch.from_numpy(two[0])):
        assert encoder.features(clip).allclose(expected[:1], atol=1e-5)


@pytest.mark.parametrize('bodies', [1, 2])
def test_a_single_frame(encoder, bodies):
    clip = people(1, bodies)
    assert encoder.features(clip).equal(encoder.features([clip]))
    assert encoder.features(clip).shape == (1, 16)


def test_one_body_with_and_without_its_axis(encoder):
    clip = people(30)
    assert encoder.features([clip[:, 0]]).equal(encoder.features([clip]))
    assert encoder([torch.from_numpy(clip)]).equal(encoder.features([clip]))


def test_other_skeletons_by_name(encoder):
    clip = people(30)
    kinect20 = clip[:, :, :20]
    mapped = matrix(SKELETONS['kinect20']) @ kinect20
    assert encoder.features([kinect20], joints='kinect20').equal(encoder.features([mapped]))
    turned = kinect20 * (-1, -1, 1)
    np.testing.assert_allclose(
        encoder.features([turned], joints='kinect20', axes='image'),
        encoder.features([mapped]),
        atol=1e-5,
    )


def test_modalities(encoder, saved):
    clip = people(30)
    both = encoder.features([clip], modalities=('motion', 'joint'))
    assert both.equal(encoder.features([clip], modalities=('joint', 'motion')))
    assert not both.allclose(encoder.features([clip]))
    config = {
        'dataset': 'ntu60',
        'protocol': 'cross_view',
        'objective': 'umurl',
        'modalities': ['joint'],
    }
    narrow = hubconf.umurl(saved(config=config).parent)  # a folder: its newest checkpoint
    assert narrow.features([clip]).equal(narrow.features([clip], modalities='joint'))
    with pytest.raises(InputError, match='there is no modality bone; some that are there: joint'):
        narrow.features([clip], modalities='bone')


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda encoder: encoder.features([people(5), people(5)[..., :24, :]]),
            r'clip 1: .* not numbers \(frames, 25',
        ),
        (
            lambda encoder: encoder.features([1000 * people(5)]),
            'clip 0: a body measures .* must be metres',
        ),
        (lambda encoder: encoder.features([np.zeros((5, 25, 3))]), 'clip 0: no body in any frame'),
        (
            lambda encoder: encoder.features([300 * people(5)[:, 0, :, :2]]),
            'clip 0: .* not metres: pixels=True scales them',
        ),
        (lambda encoder: encoder.features([people(5)[:, :, :17]]), "need joints='coco17' "),
        (lambda encoder: encoder.features([]), 'there are no clips'),
        (lambda encoder: encoder.features(5), 'clips: expected a list of arrays, not 5'),
        (
            lambda encoder: encoder.features('clip.npy'),
            r"clip 0 is a path: give encoder.read\('clip.npy'\)",
        ),
        (lambda encoder: encoder([people(5), Path('a.skeleton')]), 'clip 1 is a path'),
        (lambda encoder: encoder.features([[[1, 2], [3]]]), 'clip 0: .*inhomogeneous shape'),
        (
            lambda encoder: encoder.features([people(5), np.ma.masked_less(people(5), 0)]),
            r'clip 1 is a masked array: give clip.filled\(0\)',
        ),
        (lambda encoder: encoder.features(people(5)[0, 0]), r'clip 0: float64 \(3,\), not numbers'),
        (
            lambda encoder: encoder.features([people(5)], batch_size=0),
            'batch_size 0 is not a whole',
        ),
        (
            lambda encoder: encoder([torch.from_numpy(people(5)).requires_grad_()]),
            'clip 0: .*requires grad',
        ),
        (
            lambda encoder: encoder.features([people(5)], joints='coco'),
            'no skeleton coco; some that are there: .*coco17',
        ),
        (lambda encoder: encoder.features([people(5)], axes='picture'), 'no kind of axes picture'),
        (
            lambda encoder: encoder.features([people(5)], modalities=['bones']),
            'no modality bones; .*: bone, ',
        ),
        (lambda encoder: encoder.read('none.skeleton'), 'none.skeleton: cannot be read'),
        (
            lambda encoder: encoder.read(__file__),
            'test_hubconf.py: line 1: expected the number of frames',
        ),
        (lambda encoder: hubconf.umurl('none.pth.tar'), 'none.pth.tar: no such checkpoint'),
    ],
)
def test_bad_input_is_one_clear_line(encoder, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(encoder)
    assert '\n' not in str(error.value)


def actor(seed=0):
    """One of the demo's actors (T, 1, 25, 3), three metres away."""
    rng = np.random.default_rng(seed)
    return perform(ACTIONS[6], [draw_bones(rng)], 40, rng).swapaxes(0, 1) + (0, 0, 3)


def test_meaning_is_judged_once_for_each_encoder(encoder, saved, capsys):
    encoder.features([actor()])
    assert capsys.readouterr().err == ''
    upside_down = [actor(seed) * (-1, -1, 1) for seed in range(3)]
    for one in (encoder, hubconf.umurl(saved())):
        for _ in range(2):
            one.features(upside_down)
        warned = capsys.readouterr().err
        assert warned == ("warning: people do not stand upright: axes='image' puts that right\n")
        one.features([actor() * (-1, 1, -1)])
        assert 'face away from the sensor: turn=True' in capsys.readouterr().err
    encoder.features([actor() * (-1, 1, -1)], turn=True)
    assert capsys.readouterr().err == ''


def test_pixels_are_scaled(encoder):
    picture = actor()[..., :2]
    small, large = (encoder.features([factor * picture], pixels=True) for factor in (100, 300))
    np.testing.assert_allclose(small, large, atol=1e-5)
    np.testing.assert_allclose(encoder([100 * picture], pixels=True).detach(), small, atol=1e-5)


def test_gaps_and_padding_are_mended(encoder):
    clip = actor()
    padded = np.concatenate((np.zeros((5, 1, 25, 3)), clip, np.full((300, 1, 25, 3), np.nan)))
    assert encoder.features([padded]).equal(encoder.features([clip]))
    turned = encoder.features([clip * (-1, 1, -1)], turn=True)
    torch.testing.assert_close(turned, encoder.features([clip], turn=True))
    clip[:, 0, 17] = np.nan
    with pytest.raises(InputError, match='clip 0: the right knee is never seen'):
        encoder.features([clip])
