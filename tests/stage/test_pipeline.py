"""What dvc.yaml says is checked in tests/test_structure.py; here: where there is no repository to ask."""

import pytest
from dvc.repo import Repo

from lib.stage import pipeline
from lib.stage.errors import InputError


def test_case_113_outside_a_repository_of_dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline.entries.cache_clear()
    with pytest.raises(InputError, match=rf"{tmp_path}: is in no DVC repository. Allowed: .* cd to the folder that"):
        pipeline.entries()


def test_case_113_a_copy_without_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    with pipeline.repository() as repo:
        assert repo.root_dir == str(tmp_path)
    (tmp_path / ".dvc/config").write_text("")
    message = rf"{tmp_path}: is a copy without .git. Allowed: .* git init"
    with pytest.raises(InputError, match=message), pipeline.repository():
        pytest.fail("opened")
