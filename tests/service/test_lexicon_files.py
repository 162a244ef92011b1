"""Lexicons that change while the server runs: taken whole or not at all, and nobody gets a mixture."""

import asyncio
import copy
import os
import shutil

import pytest
from msgspec.structs import replace

from bundle.errors import BundleError
from chairlift.v1 import seq2seq_pb2 as pb
from service.errors import StartError
from service.lexicon_files import LexiconFiles
from tests.service.conftest import CountdownEngine, until
from tests.service.test_lexicon import LEXICON, MODEL, lexicon_for


@pytest.fixture
async def service(start, nobody_is_held):
    return await start(CountdownEngine())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lexicons").mkdir()
    return tmp_path / "lexicons"


def files_of(service, folder, kind=LexiconFiles):
    files = kind(folder, service.models, service.server._metrics)
    files.load()
    return files


def put(folder, lines, name="tiny.tsv"):
    """As whoever writes should: the file is there at once, and whole."""
    (folder / "new").write_text(lines)
    (folder / "new").rename(folder / name)


async def text_of(service, word="abc"):
    """The lexicon's answer; None: it was the model's."""
    (result,) = (await service.ask(word)).results
    assert result.generation.source in (LEXICON, MODEL)
    return result.generation.hypotheses[0].text if result.generation.source == LEXICON else None


def reloaded(service):
    return service.metric("chairlift_lexicon_last_reload_successful")


async def test_a_change_is_taken_at_the_look_after(service, folder):
    put(folder, "abc\tT1\n")
    files = files_of(service, folder)
    assert await text_of(service) == "T1" and service.metric("chairlift_lexicon_entries") == 1
    put(folder, "abc\tT2\nb\tT3\n")
    await files.look()
    assert await text_of(service) == "T1"
    await files.look()
    assert await text_of(service) == "T2" and service.metric("chairlift_lexicon_entries") == 2
    digest = (await service.ask("abc")).model.digest
    assert digest != service.model.bundle.digest
    assert [s.labels["digest"] for s in service.samples("chairlift_model_info")] == [digest]
    assert service.metric("chairlift_lexicon_last_reload_success_timestamp_seconds") > 0


async def test_a_file_may_come_and_go(service, folder):
    files = files_of(service, folder)
    assert await text_of(service) is None and service.metric("chairlift_lexicon_entries") == 0
    for lines, text in (("abc\tT1\n", "T1"), (None, None), ("abc\tT2\n", "T2")):
        put(folder, lines) if lines else (folder / "tiny.tsv").unlink()
        for _ in range(2):
            await files.look()
        assert await text_of(service) == text
    digest = (await service.ask("abc")).model.digest
    (folder / "tiny.tsv").unlink()
    for _ in range(2):
        await files.look()
    assert (await service.ask("abc")).model.digest == service.bundle.digest != digest


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("abc\tT2\nb\tT99\n", "tiny.tsv: line 2: target 1: token 1 is not in the target vocabulary"),
        ("abc\tT2\nb\tT3", "tiny.tsv: line 2: cut off"),
        ("", "tiny.tsv: 0 bytes"),
    ],
    ids=["vocabulary", "cut-off", "empty"],
)
async def test_a_broken_file_leaves_what_there_is(service, folder, caplog, lines, says):
    put(folder, "abc\tT1\n")
    files = files_of(service, folder)
    assert reloaded(service) == 1
    put(folder, lines)
    for _ in range(5):
        await files.look()
    assert await text_of(service) == "T1" and reloaded(service) == 0
    (record,) = [record for record in caplog.records if record.message == "lexicon refused"]  # said once
    assert record.reason.startswith(says) and record.model == "tiny/1"
    put(folder, "abc\tT2\n")
    for _ in range(2):
        await files.look()
    assert await text_of(service) == "T2" and reloaded(service) == 1


class Hasty(LexiconFiles):
    """Takes a change as soon as it sees it."""

    async def look(self):
        self._seen = {name: self._look_at(name) for name in self._seen}
        await super().look()


@pytest.mark.parametrize("kind", [LexiconFiles, Hasty])
async def test_a_file_written_in_place_is_not_read_in_the_middle(service, folder, kind):
    """The first half is a sound lexicon by itself, so that only the waiting can tell."""
    put(folder, "abc\tT1\n")
    files = files_of(service, folder, kind)
    with (folder / "tiny.tsv").open("w") as file:
        for lines in ("b\tT4\n", "c\tT5\n", "abc\tT2\n"):
            file.write(lines)
            file.flush()
            await files.look()
            answers = await text_of(service), await text_of(service, "b")
            assert (answers == ("T1", None)) == (kind is LexiconFiles)
    await files.look()
    assert await text_of(service) == "T2" and await text_of(service, "b") == "T4"


async def test_a_file_that_changes_while_it_is_read_is_read_again(service, folder, monkeypatch):
    put(folder, "abc\tT1\n")
    files = files_of(service, folder)
    put(folder, "abc\tT2\n")
    await files.look()
    real = files._read

    def read(model, state, rest):
        put(folder, "abc\tT3\n")
        return real(model, state, rest)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_read", read)
        await files.look()
    assert await text_of(service) == "T1" and reloaded(service) == 1
    for _ in range(2):
        await files.look()
    assert await text_of(service) == "T3"


async def test_a_file_that_is_taken_back_between_two_versions_is_taken_back_for_both(
    start, folder, monkeypatch, nobody_is_held
):
    service = await start(CountdownEngine())
    first = service.model
    manifest = replace(first.manifest, version=first.manifest.version + 1)
    second = copy.copy(first)
    second.manifest = manifest
    service.models.by_name["tiny"][manifest.version] = second
    service.server._metrics.lexicon_entries.labels("tiny", str(manifest.version)).set(0)
    files = files_of(service, folder)
    put(folder, "abc\tT1\n")
    await files.look()
    real, reads = files._read, []

    def read(model, state, rest):
        reads.append(model)
        if len(reads) == 2:  # the first has taken it
            put(folder, "abc\tT2\n")
        return real(model, state, rest)

    monkeypatch.setattr(files, "_read", read)
    await files.look()
    entries = [model.lexicon_entries for model in service.models.by_name["tiny"].values()]
    assert entries == [1, 0] and len(reads) == 2
    (folder / "tiny.tsv").unlink()
    for _ in range(2):
        await files.look()
    assert [model.lexicon_entries for model in service.models.by_name["tiny"].values()] == [0, 0]


async def test_a_config_map_is_swapped_by_a_link(service, folder):
    """Kubernetes: NAME.tsv links to ..data/NAME.tsv, and ..data to a folder that is replaced by a rename."""

    def mount(version, lines):
        (folder / version).mkdir()
        (folder / version / "tiny.tsv").write_text(lines)
        (folder / "..new").symlink_to(version)
        (folder / "..new").rename(folder / "..data")

    mount("..1", "abc\tT1\n")
    (folder / "tiny.tsv").symlink_to("..data/tiny.tsv")
    files = files_of(service, folder)
    assert await text_of(service) == "T1"
    mount("..2", "abc\tT2\n")
    shutil.rmtree(folder / "..1")
    for _ in range(2):
        await files.look()
    assert await text_of(service) == "T2"


async def test_a_folder_that_is_gone_takes_nothing_along(service, folder, caplog):
    put(folder, "abc\tT1\n")
    files = files_of(service, folder)
    shutil.rmtree(folder)
    for _ in range(3):
        await files.look()
    assert await text_of(service) == "T1" and reloaded(service) == 0
    assert "cannot be read: No such file" in caplog.records[-1].reason


@pytest.mark.parametrize("kind", ["broken", "pipe", "folder"])
async def test_what_is_wrong_at_the_start_is_an_error(service, folder, kind):
    path = folder / "tiny.tsv"
    if kind == "broken":
        path.write_text("abc\n")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StartError, match=r"^--lexicons: tiny\.tsv: ") as refused:
        files_of(service, folder)
    assert str(folder) not in str(refused.value) and await text_of(service) is None
    with pytest.raises(StartError, match="no such folder"):
        files_of(service, folder / "nowhere")


async def test_a_file_for_nobody_is_told_of(service, folder, caplog):
    caplog.set_level("WARNING", "service.lexicon_files")
    put(folder, "abc\tT1\n", name="tiny-2.tsv")
    files_of(service, folder)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.file == "tiny-2.tsv"


async def test_a_stop_lets_go_of_a_file_that_is_being_read(service, folder):
    files = files_of(service, folder)
    put(folder, "".join(f"{letter}{other}\tT1\n" for letter in "abcdef" for other in "abcdef"))
    state, (model,) = files._look_at("tiny"), service.models.by_name["tiny"].values()
    assert len(files._read(model, state, 0.0)) == 36
    watch = asyncio.create_task(files.watch(3600))
    await asyncio.sleep(0)
    watch.cancel()
    await asyncio.wait([watch])
    with pytest.raises(BundleError, match="the server stops"):
        files._read(model, state, 0.0)


async def test_a_look_that_fails_is_not_the_last(service, folder, monkeypatch):
    put(folder, "abc\tT1\n")
    files = files_of(service, folder)
    looks = []

    async def look():
        looks.append(None)
        raise RuntimeError("a bug")

    monkeypatch.setattr(files, "look", look)
    watch = asyncio.create_task(files.watch(0.0))
    await until(lambda: len(looks) > 2)
    watch.cancel()


def mix_up(models, model):
    """A reload that is not one: the lexicon comes before the digest that names it."""
    (old,) = models.all()
    old.lexicon = model.lexicon
    asyncio.get_running_loop().call_later(0.002, setattr, old, "digest", model.digest)


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "mixed-up"])
async def test_reloading_under_load_loses_and_mixes_nothing(start, folder, monkeypatch, broken):
    """Callers go on throughout: a response's digest says which lexicon all of its answers are from."""
    if broken:
        monkeypatch.setattr("service.catalogue.Models.replace", mix_up)
    service = await start(answer_cache=50, single_flight=True)
    words = ["abc", "b", "cab", "abcabc", "fgh", "dd", "x1"]
    models = {word: (await service.ask(word)).results[0] for word in words}
    listed = [{"abc": "T1", "b": "T2"}, {"abc": "T3", "cab": "T4 T5", "x1": "T6"}, {"dd": "T7 T8", "b": "T9"}]
    lines = ["".join(f"{source}\t{target}\n" for source, target in one.items()) for one in listed]
    expected = {service.bundle.digest: {}}
    for one, text in zip(listed, lines, strict=True):
        expected[service.model.with_lexicon(lexicon_for(service, text)).digest] = one
    put(folder, lines[0])
    files = files_of(service, folder)
    seen, wrong, asked, stopped = set(), 0, 0, False

    async def caller(place):
        nonlocal wrong, asked
        while not stopped:
            chosen = [words[(place + step) % len(words)] for step in range(1 + place % 4)]
            response = await service.stub.Generate(pb.GenerateRequest(inputs=chosen))
            asked += 1
            assert len(response.results) == len(chosen)
            seen.add(response.model.digest)
            for word, result in zip(chosen, response.results, strict=True):
                target = expected[response.model.digest].get(word)
                generation = result.generation
                if target is None:
                    wrong += result != models[word]
                else:
                    wrong += (generation.source, generation.hypotheses[0].text) != (LEXICON, target)
            place += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for place in range(12):
            group.create_task(caller(place))
        for change in range(1, 25):
            put(folder, lines[change % 3])
            for _ in range(2):
                await files.look()
            enough = asked + 20
            await until(lambda enough=enough: asked >= enough)
        stopped = True
    assert set(expected) - {service.bundle.digest} <= seen and reloaded(service) == 1
    assert (wrong > 0) == broken
