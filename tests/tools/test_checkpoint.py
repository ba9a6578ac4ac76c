"""One reader: official checkpoints and ours, with and without `module.`, and never half of one."""

import subprocess
import sys

import pytest
import torch

from feeder.modalities import streams
from model.umurl import UmURL
from tools import checkpoint
from tools.common.cli import InputError
from tools.options import ROOT


@pytest.fixture
def saved(tmp_path):
    """A path, and the model it was written from."""
    torch.manual_seed(0)
    model = UmURL(150, 192, 8, num_layer=2)
    optimizer = torch.optim.Adam(model.parameters())
    checkpoint.save(tmp_path / 'checkpoint_0004.pth.tar', model, optimizer, 5)
    return tmp_path / 'checkpoint_0004.pth.tar', model


def change(path, edit):
    """Rewrite a checkpoint with its state dict edited in place."""
    made = torch.load(path, weights_only=True)
    edit(made['state_dict'])
    torch.save(made, path)


def test_width_and_depth_are_read_from_the_file(saved):
    path, model = saved
    read, config = checkpoint.load_model(path)
    assert config is None
    assert all(
        torch.equal(value, model.state_dict()[key]) for key, value in read.state_dict().items()
    )
    assert not read.training


def test_the_number_of_heads_is_recorded(tmp_path, random_clips):
    torch.manual_seed(0)
    model = UmURL(150, 192, 8, num_head=2).eval()
    path = tmp_path / 'checkpoint_0000.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1)
    clips = streams(random_clips(3))
    assert checkpoint.load_model(path)[0].backbone.encode(clips).equal(model.backbone.encode(clips))
    with pytest.raises(InputError, match='attention heads 2, not 1'):
        checkpoint.load_weights(UmURL(150, 192, 8), checkpoint.read(path), path)
    made = torch.load(path, weights_only=True)
    assert len(made['state_dict']) == 111
    for wrong in (0, 3, 2.0, 'two'):
        torch.save(made | {'num_head': wrong}, path)
        with pytest.raises(InputError, match='attention heads do not share a width of 8'):
            checkpoint.load_model(path)
    del made['num_head']  # as the official code saves
    torch.save(made, path)
    assert checkpoint.load_model(path)[0].backbone.num_head == 1


@pytest.mark.parametrize('modalities', [('joint', 'motion'), ('bone', 'jerk', 'joint', 'motion')])
def test_the_modalities_are_those_of_the_file(tmp_path, modalities):
    model = UmURL(150, 192, 8, modalities=modalities)
    path = tmp_path / 'checkpoint_0000.pth.tar'
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 1)
    read, _ = checkpoint.load_model(path, modalities[:1])
    assert read.backbone.modalities == modalities
    assert all(value.equal(read.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match=f'has no acceleration: .*--modalities {modalities[0]} '):
        checkpoint.load_model(path, ['joint', 'acceleration'])


def test_with_and_without_module(saved):
    path, model = saved
    bare = path.with_name('bare.pth.tar')
    torch.save({'state_dict': model.state_dict()}, bare)
    one, other = (checkpoint.load_model(file)[0].state_dict() for file in (path, bare))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_loaded_encoder_outlives_its_file(saved, random_clips):
    path, model = saved
    clips = streams(random_clips(3))
    backbone = checkpoint.load_model(path)[0].backbone
    path.write_bytes(bytes(path.stat().st_size))
    assert backbone.encode(clips).equal(model.backbone.eval().encode(clips))


def test_the_old_format_is_read(saved):
    path, model = saved
    content = {'state_dict': model.state_dict()}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    loaded = checkpoint.load_model(path)[0].state_dict()
    assert all(value.equal(loaded[key]) for key, value in model.state_dict().items())


def test_loading_does_not_import_the_compiler(reference):
    """It takes a second."""
    code = (
        'import sys; from tools import checkpoint; checkpoint.load_model(sys.argv[1]); '
        'sys.exit("torch._dynamo" in sys.modules)'
    )
    command = [sys.executable, '-c', code, reference / 'initial.pth.tar']
    subprocess.run(command, cwd=ROOT, check=True)


def test_official_checkpoints(reference, width):
    for name in ('initial', 'checkpoint_0000'):
        assert checkpoint.load_model(reference / f'{name}.pth.tar')[0].backbone.hidden_size == width


KEY = 'module.backbone.mm_fusion.t_fusion.0.weight'


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda state: state.pop(KEY), '1 missing tensors'),
        (lambda state: state.pop('module.j_projector.6.bias'), '1 missing tensors'),
        (lambda state: state.pop('module.backbone.ma_encoder.pe.pe'), 'no usable tensor'),
        (lambda state: state.update(extra=torch.ones(1)), '1 unexpected tensors, such as extra'),
        (lambda state: state.update({KEY: torch.ones(4, 4)}), '1 misshapen tensors'),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_shape(saved, edit, message):
    change(saved[0], edit)
    with pytest.raises(InputError, match=message):
        checkpoint.load_model(saved[0])


class Harmful:
    def __reduce__(self):
        return print, ('this ran',)


@pytest.mark.parametrize(
    'content',
    [
        lambda path: path.write_bytes(b''),
        lambda path: path.write_text('not a checkpoint'),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({'model': 1}, path),
        lambda path: torch.save({'state_dict': Harmful()}, path),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
    ],
)
def test_other_files_are_refused(saved, content, capsys):
    content(saved[0])
    with pytest.raises(InputError, match='checkpoint_0004'):
        checkpoint.read(saved[0])
    assert 'this ran' not in capsys.readouterr().out


def test_newest(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    for epoch in (50, 9, 10000):
        checkpoint.path_of(tmp_path, epoch).touch()
    (tmp_path / 'checkpoint_best.pth.tar').touch()
    assert checkpoint.newest(tmp_path) == checkpoint.path_of(tmp_path, 10000)


@pytest.mark.parametrize(
    'error', [OSError('a full disk fails'), RuntimeError('PytorchStreamWriter failed')]
)
def test_a_failed_save_leaves_the_earlier_file(saved, monkeypatch, error):
    path, model = saved
    before = path.read_bytes()

    def full_disk(state, file):
        file.write(b'half')
        raise error

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(InputError, match='could not be written .is the disk full.*kept: .*fail'):
        checkpoint.save(path, model, torch.optim.Adam(model.parameters()), 6)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_of_another_name_is_no_epoch(tmp_path):
    checkpoint.path_of(tmp_path, 2).touch()
    (tmp_path / 'checkpoint_0009_best.pth.tar').touch()
    assert checkpoint.newest(tmp_path) == checkpoint.path_of(tmp_path, 2)


PREFIXES = [
    '',
    'module.',
    '_orig_mod.',
    'module._orig_mod.',
    '_orig_mod.module.',
    'model.',
    'model.module._orig_mod.',
]


@pytest.mark.parametrize('wrapping', ['state_dict', 'model', 'model_state_dict', None])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_other_wrappings_are_read(saved, tmp_path, wrapping, prefix):
    _, model = saved
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({wrapping: state, 'epoch': 3} if wrapping else state, tmp_path / 'other.pth')
    loaded, _ = checkpoint.load_model(tmp_path / 'other.pth')
    assert all(
        torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items()
    )
    assert checkpoint.read(tmp_path / 'other.pth').get('epoch') == (3 if wrapping else None)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_a_backbone_alone_is_enough_to_evaluate(saved, tmp_path, prefix):
    _, model = saved
    torch.save(
        {prefix + key: value for key, value in model.backbone.state_dict().items()},
        tmp_path / 'b.pth',
    )
    loaded, _ = checkpoint.load_model(tmp_path / 'b.pth')
    assert all(
        torch.equal(value, model.backbone.state_dict()[key])
        for key, value in loaded.backbone.state_dict().items()
    )


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            lambda path: path.write_text(
                'version https://git-lfs.github.com/spec/v1\noid sha256:00\n'
            ),
            'a Git LFS pointer',
        ),
        (lambda path: path.write_text('\n<!DOCTYPE html><html></html>'), 'a web page'),
        (lambda path: path.write_text('weights'), 'not a PyTorch checkpoint'),
        (
            lambda path: torch.save({'state_dict': Harmful()}, path),
            r'holds a [\w.]*print, which could run',
        ),
        (lambda path: torch.save(torch.ones(2), path), 'holds a Tensor, not a checkpoint'),
        (
            lambda path: torch.save({'hyper': 1, 'epoch': 2}, path),
            'no state_dict of tensors; its keys: hyper, epoch',
        ),
        (
            lambda path: torch.save({'state_dict': {'fc.weight': 'text'}}, path),
            'its keys: fc.weight',
        ),
        (
            lambda path: torch.save(
                {'resnet.conv1': torch.ones(1), 'resnet.fc': torch.ones(1)}, path
            ),
            '2 tensors, such as resnet.conv1, resnet.fc',
        ),
    ],
)
def test_another_file_is_described(tmp_path, content, message):
    content(tmp_path / 'file.pth.tar')
    with pytest.raises(InputError, match=message):
        checkpoint.load_model(tmp_path / 'file.pth.tar')


def test_the_optimizer_is_written_as_torch_1_12_did(saved, reference):
    path, model = saved
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    checkpoint.save(path, model, optimizer, 6)
    ours = torch.load(path, weights_only=True)['optimizer']
    official = torch.load(reference / 'checkpoint_0000.pth.tar', weights_only=True)['optimizer']
    assert ours['param_groups'][0].keys() <= official['param_groups'][0].keys()
    assert {'fused', 'differentiable', 'decoupled_weight_decay'}.isdisjoint(ours['param_groups'][0])
    assert {type(values['step']) for values in ours['state'].values()} == {torch.Tensor}
    assert {values['step'].device.type for values in ours['state'].values()} == {'cpu'}
    again = torch.optim.Adam(model.parameters(), fused=True)
    checkpoint.load_optimizer(again, checkpoint.read(path), path, 0.0)
    assert all(
        torch.equal(one['exp_avg'], two['exp_avg'])
        for one, two in zip(optimizer.state.values(), again.state.values(), strict=True)
    )


def write(path, epoch, **more):
    torch.manual_seed(epoch)
    model = UmURL(150, 192, 8)
    checkpoint.save(path, model, torch.optim.Adam(model.parameters()), epoch, **more)
    return path


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def test_the_furthest_checkpoint_is_resumed(tmp_path, capsys):
    assert checkpoint.read_furthest(tmp_path) == (None, None)
    kept = [write(checkpoint.path_of(tmp_path, epoch), epoch + 1) for epoch in (0, 50)]
    last = write(tmp_path / checkpoint.LAST, 51, step=0)
    assert checkpoint.read_furthest(tmp_path)[0] == kept[1]
    write(last, 51, step=1)
    assert checkpoint.read_furthest(tmp_path)[0] == last
    assert checkpoint.newest(tmp_path) == kept[1]  # evaluation prefers a kept one
    write(last, 40, step=3)
    assert checkpoint.read_furthest(tmp_path)[0] == kept[1]
    assert checkpoint.newest(tmp_path) == kept[1]
    capsys.readouterr()
    flip(kept[1])
    path, saved = checkpoint.read_furthest(tmp_path)
    assert (path, saved['epoch'], saved['step']) == (last, 40, 3)
    assert (
        f'note: left out: {kept[1]} is damaged: the checksum of its record'
        in capsys.readouterr().err
    )
    flip(last)
    assert checkpoint.read_furthest(tmp_path)[0] == kept[0]
    flip(kept[0])
    with pytest.raises(InputError, match='start afresh with --resume none'):
        checkpoint.read_furthest(tmp_path)


def test_of_a_stopped_run_the_last_checkpoint_is_evaluated(tmp_path):
    kept = write(checkpoint.path_of(tmp_path, 0), 1)
    last = write(tmp_path / checkpoint.LAST, 7, step=3)
    assert checkpoint.newest(tmp_path) == last
    flip(last)
    assert checkpoint.newest(tmp_path) == kept


def test_only_the_last_checkpoint_is_evaluated_if_none_was_kept(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    last = write(tmp_path / checkpoint.LAST, 0, step=7)
    assert checkpoint.newest(tmp_path) == last


@pytest.mark.parametrize(
    ('change_tensor', 'message'),
    [
        (lambda tensor: tensor.index_fill(0, torch.tensor(1), float('nan')), 'not finite'),
        (lambda tensor: tensor.index_fill(0, torch.tensor(1), -float('inf')), 'not finite'),
        (lambda tensor: tensor.int(), 'is torch.int32, where'),
        (lambda tensor: tensor > 0, 'is torch.bool, where'),
        (lambda tensor: tensor.to(torch.complex64), 'is torch.complex64, where'),
        (lambda tensor: tensor.to_sparse(), 'not an ordinary dense tensor'),
        (lambda tensor: torch.ones(1).expand(10**6, 10**6), 'is larger than what the file holds'),
        (lambda tensor: 'text', 'no state_dict of tensors'),
        (lambda tensor: None, 'no state_dict of tensors'),
    ],
)
def test_what_is_no_weight_is_refused(saved, change_tensor, message):
    path, _ = saved
    change(path, lambda state: state.update({KEY: change_tensor(state[KEY])}))
    with pytest.raises(InputError, match=message):
        checkpoint.load_model(path)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(saved, dtype):
    path, model = saved
    change(path, lambda state: state.update({KEY: state[KEY].to(dtype)}))
    loaded = checkpoint.load_model(path)[0].state_dict()[KEY.removeprefix('module.')]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, model.state_dict()[KEY.removeprefix('module.')].to(dtype).float())


def test_a_model_of_a_false_size_is_refused_before_it_is_built(saved):
    change(
        saved[0],
        lambda state: state.update(
            {'module.backbone.ma_encoder.pe.pe': torch.zeros(1, 1, 2 * 10**6)}
        ),
    )
    with pytest.raises(InputError, match='does not fit the model'):
        checkpoint.load_model(saved[0])


@pytest.mark.parametrize(
    'config',
    [
        5,
        {},
        {'dataset': 3, 'protocol': 'x', 'objective': 'x', 'modalities': []},
        {'dataset': 'ntu60', 'protocol': 'x', 'objective': 'x', 'modalities': 'joint'},
    ],
)
def test_a_config_of_another_kind_is_refused(tmp_path, config):
    with pytest.raises(InputError, match='its config'):
        checkpoint.load_model(write(tmp_path / 'file.pth.tar', 1, config=config))


@pytest.mark.parametrize(
    ('change_state', 'message'),
    [
        (
            lambda state: state.update(exp_avg=torch.full_like(state['exp_avg'], float('nan'))),
            'not finite',
        ),
        (lambda state: state.update(exp_avg_sq=torch.ones(3)), r'moments of shape'),
        (lambda state: state.update(step='many'), 'no Adam optimizer'),
        (lambda state: state.update(step=float('inf')), 'not finite'),
        (lambda state: state.pop('exp_avg'), 'no Adam optimizer'),
    ],
)
def test_an_optimizer_with_other_contents_is_refused(change_state, message):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    state = {
        index: {
            'step': torch.tensor(3.0),
            'exp_avg': torch.ones(shape),
            'exp_avg_sq': torch.ones(shape),
        }
        for index, shape in ((0, (2, 2)), (1, (2,)))
    }
    change_state(state[1])
    with pytest.raises(InputError, match=message):
        checkpoint.load_optimizer(
            optimizer, {'optimizer': optimizer.state_dict() | {'state': state}}, 'file', 0.0
        )
