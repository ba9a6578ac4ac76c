"""The explorer: what the page holds, by hand, and how it behaves in Chromium, where there is one."""

import base64
import fcntl
import itertools
import json
import os
import re
import shutil
import subprocess
import time
import zlib

import numpy as np
import pytest
import torch

from data_gen import manifest
from feeder.dataset import load_split
from model.umurl import UmURL
from tools import checkpoint
from tools.analysis import explorer
from tools.evaluation.knn import knn_search

TYPES = {
    'points': '<f4',
    'label': '<u2',
    'train': '?',
    'right': '?',
    'num_frames': '<u4',
    'neighbours': '<u4',
    'cosine': '<f4',
    'bodies': 'u1',
    'poses': 'u1',
}
CLIPS = {'train': 24, 'val': 18}
NTU_CLASSES = ['A001 drink water', 'A002 eat meal', 'A003 brush teeth']
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)


def write_features(path, labels, seed=0, spread=1.5, **about):
    """Features of noise, each class around a direction of its own."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (3, 6))
    values = {
        split: (centres[labels[split]] + rng.normal(0, spread, (len(labels[split]), 6))).astype(
            np.float32
        )
        for split in labels
    }
    np.savez(
        path,
        **values,
        **{f'{split}_labels': labels[split] for split in labels},
        about=json.dumps(about),
    )
    return values


@pytest.fixture
def folder(padded_arrays, tmp_path, monkeypatch):
    """The working folder with data/ and the features a.npz; the arrays, see padded_arrays; the
    features.
    """
    monkeypatch.chdir(tmp_path)
    made = padded_arrays(tmp_path / 'data' / 'NTU-RGB-D-60-AGCN' / 'xsub', **CLIPS)
    values = write_features('a.npz', {split: np.array(made[split][3]) for split in CLIPS})
    return tmp_path, made, values


def run(*argv, source='a.npz'):
    explorer.main(
        [
            source,
            '--out',
            'x.html',
            '--data-root',
            'data',
            '--perplexity',
            '5',
            '--device',
            'cpu',
            *map(str, argv),
        ]
    )


def contents(path='x.html'):
    """What a page holds: (about, arrays)."""
    with open(path, encoding='utf-8') as file:
        packed = json.loads(re.search(r'id="data">(.*?)</script>', file.read(), re.DOTALL)[1])
    unpacked = {name: zlib.decompress(base64.b64decode(text)) for name, text in packed.items()}
    about = json.loads(unpacked.pop('about'))
    return about, {name: np.frombuffer(values, TYPES[name]) for name, values in unpacked.items()}


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_neighbours_are_training_clips_and_val_scores_as_in_retrieval(folder, capsys):
    _, made, values = folder
    run()
    about, arrays = contents()
    assert about['names'] == made['train'][2] + made['val'][2]
    assert about['performers'] == [*range(1, 25), *range(1, 19)]
    assert about['classes'] == NTU_CLASSES and about['counts'] == [14, 14, 14]
    assert arrays['num_frames'].tolist() == [*made['train'][1], *made['val'][1]]
    assert arrays['train'].tolist() == [True] * 24 + [False] * 18
    every = unit(np.concatenate([values['train'], values['val']]))
    cosine = every @ every[:24].T
    cosine[range(24), range(24)] = -2
    order = np.argsort(-cosine, 1)[:, :5]
    assert arrays['neighbours'].reshape(-1, 5).tolist() == order.tolist()
    np.testing.assert_allclose(
        arrays['cosine'].reshape(-1, 5), np.take_along_axis(cosine, order, 1), atol=1e-6
    )
    nearest, _ = knn_search([torch.from_numpy(every[:24])], [torch.from_numpy(every[24:])], 1)
    right = np.array(made['train'][3])[nearest[:, 0]] == made['val'][3]
    assert 0 < right.mean() < 1
    assert arrays['right'][24:].tolist() == right.tolist()
    points = arrays['points'].reshape(-1, 2)
    assert points.min() == pytest.approx(0, abs=1e-6) and points.max() == pytest.approx(1, abs=1e-6)
    assert (
        f'42 clips by t-SNE; {100 * right.mean():.1f} % of 18 test clips and '
        f'{100 * arrays["right"][:24].mean():.1f} % of 24 training clips have the class of the '
        'nearest of all 24 training clips' in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    'flags', [['--split', 'val'], ['--max-points', 20], ['--classes', 'A001', 'A003']]
)
def test_all_training_clips_judge_whatever_is_shown(folder, flags, capsys):
    _, made, values = folder
    run(*flags)
    about, arrays = contents()
    train_labels = np.array(made['train'][3])
    cosine = unit(values['val']) @ unit(values['train']).T
    nearest = dict(zip(made['val'][2], train_labels[cosine.argmax(1)], strict=True))
    labels = dict(zip(made['val'][2], made['val'][3], strict=True))
    shown = [row for row, name in enumerate(about['names']) if not arrays['train'][row]]
    names = [about['names'][row] for row in shown]
    right = [nearest[name] == labels[name] for name in names]
    assert 0 < sum(right) < len(right)
    assert arrays['right'][shown].tolist() == right
    assert [about['nearest'][row] for row in shown] == [
        NTU_CLASSES[nearest[name]] for name in names
    ]
    assert f'{100 * np.mean(right):.1f} % of {len(shown)} test clips' in capsys.readouterr().out


def test_without_training_clips_all_are_candidates(folder):
    _, made, values = folder
    run('--split', 'val', '--neighbours', 30, '--map', 'pca')
    about, arrays = contents()
    assert about['names'] == made['val'][2] and about['k'] == 17  # all others
    cosine = unit(values['val']) @ unit(values['val']).T
    np.fill_diagonal(cosine, -2)
    assert arrays['neighbours'].reshape(-1, 17).tolist() == np.argsort(-cosine, 1)[:, :17].tolist()


def test_clips_and_classes_to_show_and_the_same_bytes_again(folder):
    _, made, _ = folder
    run('--classes', 'A003', 'A001 drink water', '--max-points', 20, '--seed', 3)
    about, arrays = contents()
    assert about['classes'] == [NTU_CLASSES[0], NTU_CLASSES[2]] and len(about['names']) == 20
    labels = {name: label for split in CLIPS for name, label in zip(*made[split][2:], strict=True)}
    assert [about['classes'][label] for label in arrays['label']] == [
        NTU_CLASSES[labels[name]] for name in about['names']
    ]
    first = folder[0].joinpath('x.html').read_bytes()
    for seed, same in ((3, True), (4, False)):
        run('--classes', 'A003', 'A001', '--max-points', 20, '--seed', seed)
        assert (folder[0].joinpath('x.html').read_bytes() == first) is same
    assert not [name for name in os.listdir() if name.endswith('.part')]


def test_the_size_of_a_small_page_is_shown(folder, capsys):
    run()
    assert f'written: x.html ({os.path.getsize("x.html") / 1000:.0f} kB)' in capsys.readouterr().out


def test_a_page_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    folder[0].joinpath('x.html').write_text('old')
    monkeypatch.setattr(explorer, 'page', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run()
    assert folder[0].joinpath('x.html').read_text() == 'old'


def test_poses_by_hand():
    poses = np.zeros((2, 16, 2, 25, 3), np.float32)
    poses[0, :, 0, 3] = (0, 1, 7)  # a head one metre up; z is not used
    poses[0, 8:, 0, 7] = (0.5, 0, 0)  # a hand to the sensor's left
    poses[1, 4:, 0, 0] = (0, -1, 0)  # missing in the first four frames
    poses[1, 6:, 1, 0] = (1, 0, 0)  # a second body
    bodies, packed = explorer.pack_poses(poses)
    assert bodies.tolist() == [1, 2]
    assert packed.shape == (3, 2, 25, 16) and packed.dtype == np.uint8
    x, y = packed[0].cumsum(2, dtype=np.uint8)
    assert y[3].tolist() == [1] * 16 and y[0].tolist() == [255] * 16  # up is the top
    assert (
        x[0].tolist() == [192] * 16 and x[7].tolist() == [192] * 8 + [64] * 8
    )  # 127 = half a metre, in the middle
    first, second = packed[1:].cumsum(3, dtype=np.uint8)
    assert (first[:, :, :4] == 0).all() and (first[:, :, 4:] > 0).all()
    assert first[1, 0, 4:].tolist() == [255] * 12
    assert (second[:, :, :6] == 0).all() and second[0, 0, 6:].tolist() == [1] * 10


def test_frames_are_spread_over_a_clip(folder):
    root, made, _ = folder
    _, labels, num_frames, train, poses = explorer.read_split(
        root / 'data' / 'NTU-RGB-D-60-AGCN' / 'xsub', 'val'
    )
    data = made['val'][0]
    for clip, count in enumerate(num_frames):
        rows = np.linspace(0, count - 1, 16)
        assert np.abs(poses[clip, 0] - data[clip, :, 0].transpose(2, 1, 0)).max() == 0
        assert np.abs(poses[clip, -1] - data[clip, :, count - 1].transpose(2, 1, 0)).max() == 0
        picked = [
            int(np.abs(data[clip].transpose(1, 3, 2, 0) - pose).sum((1, 2, 3)).argmin())
            for pose in poses[clip]
        ]
        assert np.abs(picked - rows).max() <= 0.51
    assert labels.tolist() == made['val'][3] and not train.any()


def custom_data(padded_arrays, folder, class_names):
    """data/custom and custom.npz, with these three names of classes."""
    split = folder / 'data' / 'custom' / 'split'
    made = padded_arrays(split, **CLIPS)
    parts = {}
    for part in CLIPS:
        clips = load_split(split, part, quiet=True)
        counts = clips.num_frames.tolist()
        digests = manifest.clip_digests(clips.frames.numpy(), counts)
        parts[part] = manifest.split_summary(clips.names, clips.labels.tolist(), counts, digests)
    manifest.write(split, parts=parts, class_names=class_names)
    write_features(
        'custom.npz',
        {part: np.array(made[part][3]) for part in CLIPS},
        dataset='custom',
        protocol='own_split',
        modalities=['bone'],
    )


def test_no_name_can_break_the_page(folder, padded_arrays):
    hostile = ['</script><b onclick="x">', '{{script}} &amp; \\1', "Ünï'code\u2028"]
    custom_data(padded_arrays, folder[0], hostile)
    shutil.copy('custom.npz', '<b>&.npz')
    run(source='<b>&.npz')
    about, _ = contents()
    assert about['classes'] == hostile
    with open('x.html', encoding='utf-8') as file:
        text = file.read()
    assert text.count('</script>') == 2 and '<b' not in text.replace('<body', '').replace(
        '<button', ''
    )
    assert '<title>&lt;b&gt;&amp;.npz, custom own split</title>' in text
    assert not re.search(
        r'(src|href)=|https?:|@import|url\(|fetch\(',
        re.sub('id="data">.*', '', text) + text[text.index('</script>') :],
    ), 'the page must not need the network'


def test_a_checkpoint_gives_the_page_of_its_features(folder):
    model = UmURL(150, 192, 8)
    checkpoint.save('c.pth.tar', model, torch.optim.Adam(model.parameters()), 0)
    run('--modalities', 'joint', '--map', 'pca', source='c.pth.tar')
    about, arrays = contents()
    assert len(about['names']) == 42 and arrays['poses'].size == 42 * 2 * 2 * 25 * 16


BAD = [
    (['none.npz'], 'none.npz is not a file'),
    (['text.npz'], 'not an .npz file'),
    (['text.pth.tar'], 'text.pth.tar is not a'),
    (['reversed.npz'], 'reversed.npz has features of other clips than'),
    (['a.npz', '--data-root', 'nowhere'], 'xsub is not there: prepare ntu60 first'),
    (['a.npz', '--protocol', 'cross_view'], 'xview is not there'),
    (['a.npz', '--classes', 'A002'], '14 clips of fewer than two classes'),
    (['a.npz', '--classes', 'A02', 'A001'], 'there is no class A02; some that are there: A0'),
    (['same.npz'], 'same.npz: the features of all clips are the same'),
    (['a.npz', '--out', '.'], '. is a folder'),
    (['a.npz', '--neighbours', 0], '0 is not a whole number from 1'),
    (
        ['custom.npz', '--classes', 'wave hand'],
        'there is no class wave hand; some that are there: wave hands',
    ),
]


@pytest.mark.parametrize(('argv', 'message'), BAD, ids=[message for _, message in BAD])
def test_a_mistake_is_one_line(folder, padded_arrays, mistake, argv, message):
    for name in ('text.npz', 'text.pth.tar'):
        folder[0].joinpath(name).write_text('text')
    labels = {split: np.array(folder[1][split][3]) for split in CLIPS}
    write_features('reversed.npz', {split: values[::-1] for split, values in labels.items()})
    np.savez(
        'same.npz',
        train=np.ones((24, 4)),
        train_labels=labels['train'],
        val=np.ones((18, 4)),
        val_labels=labels['val'],
    )
    custom_data(padded_arrays, folder[0], ['wave hands', 'kick', 'sit'])
    source, *flags = argv
    flags += [] if '--out' in argv else ['--out', 'x.html']
    flags += [] if '--data-root' in argv else ['--data-root', 'data']
    assert message in mistake(explorer.main, [source, *flags, '--device', 'cpu'])
    assert not os.path.exists('x.html')


class Browser:
    """Headless Chromium, driven through its debugging pipe: JSON messages that end in a zero byte."""

    def __init__(self, profile):
        for_browser, self.write_end = os.pipe()
        self.read_end, from_browser = os.pipe()

        def place_pipes():  # Chromium reads from 3 and writes to 4
            high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (for_browser, from_browser)]
            for number, end in enumerate(high, 3):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [
                CHROMIUM,
                '--headless=new',
                '--no-sandbox',
                '--disable-gpu',
                '--disable-dev-shm-usage',
                '--remote-debugging-pipe',
                f'--user-data-dir={profile}',
            ],
            preexec_fn=place_pipes,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(for_browser)
        os.close(from_browser)
        self.numbers, self.received, self.events, self.session = itertools.count(1), b'', [], {}
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = {
            'sessionId': self.call('Target.attachToTarget', targetId=target, flatten=True)[
                'sessionId'
            ]
        }
        for domain in ('Page', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')

    def call(self, method, **params):
        number = next(self.numbers)
        os.write(
            self.write_end,
            json.dumps({'id': number, 'method': method, 'params': params} | self.session).encode()
            + b'\0',
        )
        while True:
            while b'\0' not in self.received:
                chunk = os.read(self.read_end, 1 << 20)
                assert chunk, 'Chromium has ended'
                self.received += chunk
            message, _, self.received = self.received.partition(b'\0')
            message = json.loads(message)
            if message.get('id') == number:
                assert 'error' not in message, message
                return message['result']
            self.events.append(message)

    def value(self, expression):
        return self.call('Runtime.evaluate', expression=expression, returnByValue=True)[
            'result'
        ].get('value')

    def wait_for(self, expression):
        for _ in range(1200):
            if value := self.value(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f'{expression} is still {value}')

    def open(self, path, width, height, touch=False):
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self.call('Emulation.setTouchEmulationEnabled', enabled=touch)
        self.call('Page.navigate', url='about:blank')
        self.call('Page.navigate', url=f'file://{path}')

    def press(self, key, **more):
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, **more)

    def touch(self, kind, *points):
        self.call(
            'Input.dispatchTouchEvent',
            type=kind,
            touchPoints=[{'x': x, 'y': y, 'id': number} for number, (x, y) in enumerate(points)],
        )

    def complaints(self):
        """What a user would see in the console."""
        kinds = 'Runtime.exceptionThrown', 'Runtime.consoleAPICalled'
        return [
            event
            for event in self.events
            if event['method'] in kinds
            or event['method'] == 'Log.entryAdded'
            and event['params']['entry']['level'] == 'error'
        ]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.write_end)
        os.close(self.read_end)


@pytest.fixture
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip('no Chromium here: apt-get install chromium')
    opened = Browser(tmp_path_factory.mktemp('profile'))
    yield opened
    opened.close()


def test_the_page_tests_itself_in_a_browser(folder, browser):
    run()
    about, arrays = contents()
    browser.open(f'{folder[0]}/x.html#test', 1400, 900)
    seen = json.loads(browser.wait_for("document.getElementById('test').textContent"))
    assert seen['errors'] == browser.complaints() == []
    assert seen['clips'] == seen['shown'] == 42
    assert seen['wrong'] == (~arrays['right']).sum()
    assert seen['hovered'] in about['names'] and seen['hoverChanged'] > 100
    clicked = about['names'].index(seen['clicked'], 24)  # the last, or one beside it
    neighbours = [about['names'][clip] for clip in arrays['neighbours'].reshape(-1, 5)[clicked]]
    assert seen['neighbours'] == neighbours and seen['cardChanged'] > 100
    assert seen['neighbour'] == neighbours[0]
    assert seen['searched'] == about['names'][0]
    first = browser.value('data.first[30]')
    poses = browser.value(f'Array.from(data.poses.subarray({first}, {first} + 800))')  # of one body
    start = 800 * arrays['bodies'][:30].sum()
    assert (
        poses
        == arrays['poses'][start : start + 800]
        .reshape(-1, 16)
        .cumsum(1, dtype=np.uint8)
        .ravel()
        .tolist()
    )


def test_keys_touch_and_a_narrow_screen(folder, browser, padded_arrays):
    hostile = ['</script><b>', '<img src=x onerror=alert(1)>', 'sit']
    custom_data(padded_arrays, folder[0], hostile)
    run(source='custom.npz')
    about, _ = contents()
    browser.open(f'{folder[0]}/x.html', 400, 860, touch=True)
    browser.wait_for('typeof times === "object" && times.map.length')
    assert browser.value('document.documentElement.scrollWidth') <= 400  # nothing is cut off
    assert (
        browser.value('document.images.length + document.querySelectorAll("#classes b").length')
        == 0
    )
    assert browser.value(
        '[...document.querySelectorAll("#classes span")].map(e => e.textContent).join()'
    ) == ','.join(f'{name} (14)' for name in hostile)

    browser.press('/', text='/')
    assert browser.value('document.activeElement.id') == 'search'
    browser.call('Input.insertText', text=about['names'][5])
    browser.press('0', text='0')  # a letter here, not a command
    assert browser.value('document.getElementById("search").value') == about['names'][5] + '0'
    browser.press('Backspace', windowsVirtualKeyCode=8)
    browser.press('Enter')
    assert browser.value('data.names[selected]') == about['names'][5]
    browser.press('Escape')
    assert browser.value('selected') == -1 and browser.value('document.activeElement.id') == 'map'
    browser.press('ArrowRight')
    first = browser.value('selected')
    x = browser.value('data.points[2 * selected]')
    browser.press('ArrowRight')
    assert first >= 0 and browser.value('data.points[2 * selected]') > x

    left, top = (
        browser.value(f'document.getElementById("map").getBoundingClientRect().{side}')
        for side in ('x', 'y')
    )
    place = [browser.value(f'screen{axis}(7)') for axis in 'XY']
    at = left + place[0], top + place[1]
    browser.touch('touchStart', at)
    browser.touch('touchEnd')
    tapped = browser.wait_for('selected + 1') - 1
    assert [browser.value(f'screen{axis}({tapped})') for axis in 'XY'] == pytest.approx(
        place, abs=20
    )
    browser.touch('touchStart', (left + 150, top + 200), (left + 250, top + 200))
    browser.touch('touchMove', (left + 100, top + 200), (left + 300, top + 200))
    browser.touch('touchEnd')
    assert browser.value('view.zoom') == pytest.approx(2, rel=0.1)
    assert browser.complaints() == []
