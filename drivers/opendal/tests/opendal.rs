//! The OpenDAL driver through a real session.

mod support;

use std::io::SeekFrom;

use futures::TryStreamExt;
use jmp_interfaces::opendal::{HashAlgorithm, OpenMode, OpendalClient};
use jmp_interfaces::resource::TransferOptions;
use serde_json::{Value as Json, json};
use support::{Fixture, pattern};

#[tokio::test]
async fn files_make_the_round_trip() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    let local = tempfile::tempdir().unwrap();
    let (image, copy) = (local.path().join("image"), local.path().join("copy"));
    let data = pattern(10 << 20);
    std::fs::write(&image, &data).unwrap();
    let options = TransferOptions::default();
    files
        .write_from_path("deep/below/image", image.as_path(), &options)
        .await
        .unwrap();
    assert!(std::fs::read(root.path().join("deep/below/image")).unwrap() == data);
    files
        .read_into_path("deep/below/image", copy.as_path(), &options)
        .await
        .unwrap();
    assert!(std::fs::read(&copy).unwrap() == data);
}

#[tokio::test]
async fn answers_have_the_shape_of_the_wire() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    files.write_bytes("a/hello", "hello").await.unwrap();
    let handle = fixture.handle();
    let stat: Json = handle.call("stat", ("a/hello",)).await.unwrap();
    assert_eq!(
        stat,
        json!({
            "content_disposition": null, "content_length": 5, "content_md5": null,
            "content_type": null, "etag": null,
            "mode": { "entry_is_file": true, "entry_is_dir": false },
        })
    );
    let capability: Json = handle.call("capability", ()).await.unwrap();
    let capability = capability.as_object().unwrap();
    assert_eq!(capability.len(), 33);
    for key in [
        "copy",
        "rename",
        "write_can_append",
        "write_can_empty",
        "write_can_multi",
    ] {
        assert_eq!(capability[key], true, "{key}");
    }
    for key in ["presign", "presign_read", "presign_stat", "presign_write"] {
        assert_eq!(capability[key], false, "{key}");
    }
    assert_eq!(capability["write_multi_max_size"], Json::Null);
    let hash: String = handle.call("hash", ("a/hello", "md5")).await.unwrap();
    assert_eq!(hash, "5d41402abc4b2a76b9719d911017c592");
    let hash: String = handle.call("hash", ("a/hello",)).await.unwrap();
    assert_eq!(
        hash,
        files
            .hash("a/hello".into(), HashAlgorithm::Sha256)
            .await
            .unwrap()
    );
    assert!(hash.starts_with("2cf24dba5fb0a30e"));
    let nothing: Json = handle.call("copy", ("a/hello", "b")).await.unwrap();
    assert_eq!(nothing, Json::Null);
}

#[tokio::test]
async fn entries_are_listed_with_their_directory() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    entries_of(&fixture.opendal(), true).await;
    let fixture = Fixture::new("Opendal", json!({ "scheme": "memory", "kwargs": {} })).await;
    entries_of(&fixture.opendal(), false).await;
}

/// `directories`: they are entries of their own, not just parts of names.
async fn entries_of(files: &OpendalClient, directories: bool) {
    for path in ["top", "a/one", "a/b/two"] {
        files.write_bytes(path, path.to_owned()).await.unwrap();
    }
    for (path, recursive, expected) in [
        ("/", false, vec!["/", "a/", "top"]),
        ("a/", false, vec!["a/", "a/b/", "a/one"]),
        ("a/", true, vec!["a/", "a/b/", "a/b/two", "a/one"]),
        (
            "/",
            true,
            vec!["/", "a/", "a/b/", "a/b/two", "a/one", "top"],
        ),
        ("nosuch/", false, vec![]),
    ] {
        let mut entries: Vec<String> = if recursive {
            files
                .scan(path.into())
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap()
        } else {
            files
                .list(path.into())
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap()
        };
        entries.sort();
        let mut expected = expected.clone();
        if recursive && !directories {
            expected.retain(|entry| *entry == path || !entry.ends_with('/'));
        }
        assert_eq!(entries, expected, "{path} {recursive}");
    }
    assert_eq!(files.read_bytes("a/b/two").await.unwrap(), b"a/b/two");
    assert!(files.exists("a/one".into()).await.unwrap());
    assert!(!files.exists("a/none".into()).await.unwrap());
    files.delete("a/none".into()).await.unwrap();
    files.remove_all("a/".into()).await.unwrap();
    assert!(!files.exists("a/b/two".into()).await.unwrap());
}

#[tokio::test]
async fn files_have_a_position() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let files = fixture.opendal();
    let file = files.open_file("x", OpenMode::Write).await.unwrap();
    file.write_bytes("hello ").await.unwrap();
    file.write_bytes("world").await.unwrap();
    assert_eq!(file.tell().await.unwrap(), 11);
    assert!(file.is_writable().await.unwrap());
    assert!(!file.is_readable().await.unwrap() && !file.is_seekable().await.unwrap());
    assert_eq!(file.read_bytes().await.unwrap(), b"");
    file.seek(SeekFrom::Start(0)).await.unwrap_err();
    file.close().await.unwrap();
    file.close().await.unwrap();
    assert!(file.is_closed().await.unwrap() && !file.is_writable().await.unwrap());
    assert_eq!(file.tell().await.unwrap_err().code_name(), "UNKNOWN");

    let file = files.open_file("x", OpenMode::Read).await.unwrap();
    assert!(file.is_readable().await.unwrap() && file.is_seekable().await.unwrap());
    assert!(!file.is_writable().await.unwrap());
    assert_eq!(file.seek(SeekFrom::End(-5)).await.unwrap(), 6);
    assert_eq!(file.read_bytes().await.unwrap(), b"world");
    assert_eq!(file.tell().await.unwrap(), 11);
    assert_eq!(file.read_bytes().await.unwrap(), b"");
    file.seek(SeekFrom::Start(2)).await.unwrap();
    assert_eq!(file.seek(SeekFrom::Current(-1)).await.unwrap(), 1);
    assert_eq!(file.read_bytes().await.unwrap(), b"ello world");
    let error = file.seek(SeekFrom::Current(-100)).await.unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    file.write_bytes("no").await.unwrap_err();
}

#[tokio::test]
async fn refusals_read_like_those_of_shipped_exporters() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    let handle = fixture.handle();
    let error = handle
        .call::<Json>("open", ("none", "rb"))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
    let text = error.message();
    assert!(
        text.starts_with("NotFound (permanent) at stat => "),
        "{text}"
    );
    assert!(
        text.contains("path: none") && !text.contains('\n'),
        "{text}"
    );
    let error = handle
        .call::<Json>("open", ("none", "r+"))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    let error = handle
        .call::<Json>("hash", ("none", "crc"))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    let error = handle
        .call::<Json>("presign_read", ("x", 60))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
    let error = handle
        .call::<Json>("presign_read", ("x", -1))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    let error = handle.call::<Json>("create_dir", ("x",)).await.unwrap_err();
    assert!(error.message().starts_with("NotADirectory"), "{error}");
    let error = handle
        .call::<Json>("stat", ("../../etc/passwd",))
        .await
        .unwrap_err();
    assert!(error.message().starts_with("NotFound"), "{error}");
    let unknown = uuid::Uuid::new_v4();
    let error = handle
        .call::<Json>("file_tell", (unknown,))
        .await
        .unwrap_err();
    assert_eq!(error.code_name(), "UNKNOWN");
    let error = handle.call::<Json>("file_tell", ("x",)).await.unwrap_err();
    assert_eq!(error.code_name(), "INVALID_ARGUMENT");
    handle
        .call::<()>("create_dir", ("made/twice/",))
        .await
        .unwrap();
    handle
        .call::<()>("create_dir", ("made/twice/",))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_made_is_known_and_removed_on_request() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("before"), "x").unwrap();
    let config = json!({
        "scheme": "fs", "kwargs": { "root": root.path() }, "remove_created_on_close": true,
    });
    let fixture = Fixture::new("Opendal", config).await;
    let files = fixture.opendal();
    files.write_bytes("/a//one", "1").await.unwrap();
    files.copy("a/one".into(), "two".into()).await.unwrap();
    files.rename("two".into(), "three".into()).await.unwrap();
    files.create_dir("d/e/".into()).await.unwrap();
    files.write_bytes("d/e/inside", "1").await.unwrap();
    files.register_path("./registered".into()).await.unwrap();
    files.write_bytes("gone", "1").await.unwrap();
    files.delete("gone".into()).await.unwrap();
    assert_eq!(
        files.get_created_resources().await.unwrap(),
        ["a/one", "d/e", "d/e/inside", "registered", "three"]
    );
    fixture.session.close().await;
    let mut left: Vec<_> = std::fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    // Parents that came along are not what anybody asked for by name.
    assert_eq!(left, ["a", "before", "d"]);
    assert!(!root.path().join("a/one").exists() && !root.path().join("d/e").exists());
}

#[tokio::test]
async fn without_the_option_everything_stays() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::files(root.path()).await;
    fixture.opendal().write_bytes("x", "1").await.unwrap();
    let open = fixture
        .opendal()
        .open_file("open", OpenMode::Write)
        .await
        .unwrap();
    open.write_bytes("written").await.unwrap();
    fixture.session.close().await;
    assert_eq!(std::fs::read(root.path().join("x")).unwrap(), b"1");
    // Not closed by its client, so closed with the session.
    assert_eq!(std::fs::read(root.path().join("open")).unwrap(), b"written");
}

#[tokio::test]
async fn services_that_cannot_be_opened_say_why() {
    for (config, text) in [
        (
            json!({ "scheme": "nosuch", "kwargs": {} }),
            "scheme is not registered",
        ),
        (
            json!({ "scheme": "fs", "kwargs": {} }),
            "root is not specified",
        ),
        (json!({ "scheme": "fs" }), "key `kwargs` is missing"),
    ] {
        match support::session("Opendal", config).await {
            Ok(_) => panic!("opened, although {text}"),
            Err(error) => assert!(error.contains(text), "{error}"),
        }
    }
}
