"""Files and vector stores: a file is a document, a store is a session."""

from api_server import wait_until

NOTES = b"# Notes\n\nThe harbour was called Tarn.\nIts keeper was Odile.\n"


def send(served, name, data):
    response = served.client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "assistants"})
    assert response.status_code == 200, response.text
    return response.json()


def store_with(served, name, *files):
    body = {"name": name, "file_ids": [file["id"] for file in files]}
    store = served.client.post("/v1/vector_stores", json=body).json()
    path = f"/v1/vector_stores/{store['id']}"
    wait_until(lambda: served.client.get(path).json()["status"] == "completed")
    return path, served.client.get(path).json()


def test_a_file_is_kept_listed_given_back_and_deleted(served):
    file = send(served, "../../etc/notes.md", NOTES)
    assert (file["filename"], file["bytes"], file["object"]) == ("notes.md", len(NOTES), "file")
    path = f"/v1/files/{file['id']}"
    assert served.client.get(f"{path}/content").content == NOTES
    assert file["id"] in [each["id"] for each in served.client.get("/v1/files").json()["data"]]
    assert served.client.delete(path).json()["deleted"] is True
    assert served.client.get(path).status_code == 404
    for strange in ("file-..%2f..%2fkey", "file-" + "0" * 32, "x"):
        assert served.client.get(f"/v1/files/{strange}/content").status_code == 404


def test_a_store_counts_its_files_and_is_asked_as_a_session(served):
    file = send(served, "notes.md", NOTES)
    path, store = store_with(served, "harbour", file)
    assert store["file_counts"] == {"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}
    body = {"model": "sala/harbour", "messages": [{"role": "user", "content": "Who was the keeper?"}]}
    raw = served.client.post("/v1/chat/completions", json=body).json()
    assert raw["choices"][0]["message"]["content"] == '"Its keeper was Odile."'
    assert raw["sala"]["quotations"][0]["lines"] == [4, 4]
    found = served.client.post(f"{path}/search", json={"query": "harbour"}).json()["data"]
    assert "Tarn" in found[0]["content"][0]["text"]
    assert found[0]["filename"] == "notes.md"
    assert served.client.delete(path).json()["deleted"] is True
    assert served.client.get(path).status_code == 404
    assert [row.name for row in served.workspace.library.sessions_in_bin()] == ["harbour"]


def test_a_file_that_cannot_be_read_fails_with_its_reason_and_the_store_stays(served):
    bad = send(served, "broken.pdf", b"%PDF-1.7 nothing")
    path, store = store_with(served, "broken", bad)
    assert store["file_counts"]["failed"] == 1
    (item,) = served.client.get(f"{path}/files").json()["data"]
    assert item["status"] == "failed"
    assert item["last_error"]["message"]
    good = send(served, "notes.md", NOTES)
    served.client.post(f"{path}/files", json={"file_id": good["id"]})
    wait_until(lambda: served.client.get(f"{path}/files/{good['id']}").json()["status"] == "completed")
    assert served.client.get(path).json()["file_counts"]["total"] == 2


def test_a_file_is_taken_out_of_a_store_and_unknown_ones_are_refused(served):
    file = send(served, "notes.md", NOTES)
    path, store = store_with(served, "taken", file)
    assert served.client.delete(f"{path}/files/{file['id']}").json()["deleted"] is True
    session = store["id"].removeprefix("vs_")
    wait_until(lambda: served.workspace.active_job(session) is None)
    assert served.workspace.library.documents(session) == []
    refused = served.client.post("/v1/vector_stores", json={"name": "x", "file_ids": ["file-" + "0" * 32]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "file_not_found")
    assert served.client.post("/v1/vector_stores", json={"name": "taken"}).json()["error"]["code"] == "name_taken"
    assert served.client.get("/v1/vector_stores/vs_nothing").status_code == 404


def test_a_batch_of_files_is_one_reading(served):
    store = served.client.post("/v1/vector_stores", json={"name": "batch"}).json()
    path = f"/v1/vector_stores/{store['id']}"
    ids = [send(served, f"{n}.txt", f"The lamp of pier {n} is green.\n".encode())["id"] for n in range(3)]
    batch = served.client.post(f"{path}/file_batches", json={"file_ids": ids}).json()
    wait_until(lambda: served.client.get(f"{path}/file_batches/{batch['id']}").json()["status"] == "completed")
    assert served.client.get(f"{path}/file_batches/{batch['id']}").json()["file_counts"]["completed"] == 3
    page = served.client.get(f"{path}/files", params={"limit": 2}).json()
    assert (len(page["data"]), page["has_more"]) == (2, True)
    rest = served.client.get(f"{path}/files", params={"after": page["last_id"]}).json()
    assert (len(rest["data"]), rest["has_more"]) == (1, False)
