"""Where the page listens, and what stands in for a reverse look-up that takes too long."""

import socket

import pytest

from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError
from sightread.web.lookup import choosers
from sightread.web.server import hosts_of, is_local, listen


def test_a_port_that_is_taken_is_an_error_for_people():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1, port {port}.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot listen at no-such-host"):
        listen("no-such-host.invalid", 0)


@pytest.mark.parametrize(
    ("host", "more"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3"), ("box", "box")]
)
def test_it_answers_to_its_own_names(host, more):
    assert {*hosts_of(host)} == {"localhost", "127.0.0.1", "[::1]", more}
    assert is_local(host) == (host in {"127.0.0.1", "::1"})
    assert hosts_of("::") == hosts_of(socket.inet_ntoa(bytes(4))) == ["*"]


def test_a_look_up_ends_in_time(voken_corpus_folder):
    corpus = VokenCorpus(voken_corpus_folder)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    corpus.shards = corpus.shards * 3  # as if there were more
    found = choosers(corpus, tokenizer, 2, seconds=-1)
    assert found["read"] == 1.0  # a third of what there is now; one shard is always read
    assert choosers(corpus, tokenizer, 2)["read"] == 3.0
    nobody = choosers(corpus, tokenizer, 23_000)
    assert (nobody["tokens"], nobody["types"], nobody["examples"]) == (0, [], [])
