"""The line between a monitor and the spawner, over a real pair of sockets [MON-6]."""

from __future__ import annotations

import marshal
import os

from pybuild.containers.keeping import STDIN, TERMINAL, SpawnerLine, pair, receive
from pybuild.containers.loop import Loop
from pybuild.containers.streams import Streams


def test_what_a_monitor_keeps_comes_with_its_descriptors() -> None:
    ours, theirs = pair()
    line = SpawnerLine(theirs)
    assert line.fileno() == theirs.fileno()
    assert not os.get_inheritable(ours.fileno()) and not os.get_inheritable(theirs.fileno())
    streams = Streams(Loop(), lambda name, data: None, once=False)
    assert streams.input < 0 and streams.terminal < 0
    line.keep(7, streams, {})
    assert receive(ours) == (("keep", 7, []), [])
    read_end, write_end = os.pipe()
    streams.add_input(write_end)
    line.keep(8, streams, {})
    message = receive(ours)
    assert message is not None
    (word, pid, names), (copy,) = message
    assert (word, pid, names) == ("keep", 8, [STDIN])
    os.write(copy, b"x")
    assert os.read(read_end, 9) == b"x"
    streams.terminal = os.dup(read_end)
    line.keep(9, streams, {})
    message = receive(ours)
    assert message is not None and message[0] == ("keep", 9, [STDIN, TERMINAL])
    for fd in (copy, *message[1], read_end, write_end, streams.terminal):
        os.close(fd)
    line.let_go(returns=False)
    assert receive(ours) == (("drop",), [])
    line.let_go(returns=True)
    assert receive(ours) == (("restart",), [])
    ours.send(marshal.dumps(("ended", 3)))
    assert line.status() == 3
    ours.close()
    line.let_go(returns=False)  # nobody hears it
    assert line.status() is None
    theirs.close()


def test_a_monitor_that_is_gone_says_nothing() -> None:
    ours, theirs = pair()
    theirs.close()
    assert receive(ours) is None
    ours.close()
    assert receive(ours) is None  # nor can be heard


def test_a_monitor_sleeps_only_where_another_follows() -> None:
    """Other messages of the spawner are left to the next monitor; a spawner that is gone has no next one."""
    ours, theirs = pair()
    line = SpawnerLine(theirs)
    for is_followed in (True, False):
        ours.send(marshal.dumps(("ended", 3)))
        ours.send(marshal.dumps(("followed", is_followed)))
        assert line.doze({"calls": 0}) is is_followed
        message = receive(ours)
        assert message is not None and message[0] == ("doze", 0, ["calls"])
        os.close(message[1][0])
    ours.close()
    assert line.doze({}) is False
    theirs.close()
