"""What a preparation has done so far, a line per recording: it survives Ctrl-C, kill -9 and a full disk."""
import json
import os


class Journal:
    """Lines of JSON behind a first line that says which plan they belong to.

    A line is appended only after what it tells of is written; a line cut short by a kill counts for nothing.
    """

    def __init__(self, path, plan):
        self.path, self.plan = path, plan
        self.records, whole = [], 0
        if path.is_file():
            first, *rest = path.read_bytes().split(b'\n')[:-1] or [b'']
            if first == plan.encode():
                self.records = [json.loads(line) for line in rest]
                whole = len(first) + 1 + sum(len(line) + 1 for line in rest)
        self.file = open(path, 'ab')  # noqa: SIM115, it stays open
        self.file.truncate(whole)
        if not whole:
            self.write(plan)

    def restart(self):
        """Forget all but the plan."""
        self.records = []
        self.file.truncate(0)
        self.write(self.plan)

    def append(self, record):
        self.records.append(record)
        self.write(json.dumps(record))

    def write(self, line):
        self.file.write(line.encode() + b'\n')
        self.file.flush()

    def remove(self):
        self.file.close()
        os.unlink(self.path)
