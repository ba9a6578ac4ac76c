"""The text files of PKU-MMD: label lines to actions, and the frames of a video to one recording per action."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_gen.preprocess import MAX_FRAME
from data_gen.protocols import DATASETS
from data_gen.skeleton import BODIES, JOINTS, SkeletonError

CLASSES = DATASETS['pku2'].classes
COLUMNS = BODIES * JOINTS * 3


class Action(NamedTuple):
    """A line (from 1) of a label file: label from 0, of frames[start:end]; why it cannot be used; what it overlaps."""
    line: int
    label: int = -1
    start: int = 0
    end: int = 0
    flaw: str = ''
    overlap: str = ''


def read_actions(path, keep_overlapping):
    """A label file's {recording: Action}; empty lines are no actions, but count in the names."""
    actions, used = {}, []
    for line, text in enumerate(path.read_text(encoding='latin-1').split('\n'), 1):
        if text.strip():
            action = read_action(line, text)
            other = next((other for other in used if action.start < other.end and other.start < action.end), None)
            if other and not action.flaw:
                what = f'{action.start},{action.end} overlaps {other.start},{other.end} of line {other.line}'
                action = action._replace(overlap=what, flaw='' if keep_overlapping else what)
            if not action.flaw:
                used.append(action)
            actions[f'{path.name}_{line - 1}'] = action
    return actions


def read_action(line, text):
    """One line of a label file, in itself."""
    try:
        number, start, end, _ = text.split(',')
        action = Action(line, int(number) - 1, int(start), int(end))
    except ValueError:
        return Action(line, flaw='not class,start,end,confidence')
    if not 0 <= action.label < CLASSES:
        return action._replace(flaw=f'class {action.label + 1} is not in 1 to {CLASSES}')
    if not 0 <= action.start < action.end:
        return action._replace(flaw=f'{action.start},{action.end} is no interval')
    return action


def read_video(actions, path, names):
    """A job's read: the actions of one video, by name from {name: Action}."""
    try:
        frames = read_frames(path)
    except SkeletonError as error:
        return [error] * len(names)
    return [cut(frames, actions[name]) for name in names]


def cut(frames, action):
    """An action (3, T, 25, 2) of a video's frames (F, 2, 25, 3), or a SkeletonError.

    The bodies are in the order of the file, but the second comes first where the first is never there: normalisation
    centres on the first.
    """
    clip = frames[action.start:action.end][:MAX_FRAME]
    first, second = clip.any((0, 2, 3))
    flaw = action.flaw
    if not flaw and action.start >= len(frames):
        flaw = f'{action.start},{action.end} lies behind the {len(frames)} frames of the video'
    elif not flaw and not (first or second):
        flaw = 'all coordinates are zero'
    if flaw:
        return SkeletonError(f'label line {action.line}: {flaw}')
    return (clip if first else clip[:, ::-1]).transpose(3, 0, 2, 1)


def read_frames(path):
    """The frames of a video (F, 2, 25, 3) float32; SkeletonError where a line is not 150 finite numbers."""
    try:
        lines = Path(path).read_text(encoding='latin-1').rstrip().split('\n')
    except OSError as error:
        raise SkeletonError(f'cannot be read: {error.strerror}') from error
    try:
        frames = np.loadtxt(lines, np.float32, comments=None, ndmin=2) if lines[0] else np.empty((0, 0))
    except ValueError:
        frames = np.empty((0, 0))
    # A line that is empty is none to loadtxt, and would move all later frames.
    if frames.shape != (len(lines), COLUMNS) or not np.isfinite(frames).all():
        bad = next(number for number, line in enumerate(lines, 1) if not is_frame(line))
        raise SkeletonError(f'line {bad}: not {COLUMNS} finite numbers')
    return frames.reshape(-1, BODIES, JOINTS, 3)


def is_frame(line):
    try:
        frame = np.loadtxt([line], np.float32, comments=None) if line.strip() else np.empty(0)
        return frame.shape == (COLUMNS,) and np.isfinite(frame).all()
    except ValueError:
        return False
