//! Files that change under a control plane.
#![allow(clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;

use control_plane::{Handle, Listener, Server, Snapshot, Source, watch};
use support::{http_service, in_time, wait_for};
use tempfile::TempDir;

/// A control plane over a folder that is being watched.
async fn watched(folder: &Path) -> Handle {
    let source = Source::new([folder.to_path_buf()]);
    let snapshot = source.load().expect("the first configuration is right");
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port on loopback");
    let handle = Server::builder().snapshot(snapshot).serve(listener);
    tokio::spawn(watch(source, handle.clone()));
    handle
}

fn put(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(".draft");
    fs::write(&draft, text).expect("a writable folder");
    fs::rename(draft, folder.join(name)).expect("a writable folder");
}

#[tokio::test]
async fn new_changed_and_removed_files_become_new_generations() {
    let folder = TempDir::new().expect("a temporary folder");
    put(folder.path(), "greeter.yaml", &http_service("greeter", "10.96.0.10", &["127.0.1.1"]));
    let handle = watched(folder.path()).await;
    assert_eq!(handle.stats().generation, 1);
    put(folder.path(), "shop.yaml", &http_service("shop", "10.96.0.11", &[]));
    wait_for(&handle, |stats| stats.generation == 2).await;
    fs::write(folder.path().join("greeter.yaml"), http_service("greeter", "10.96.0.12", &[]))
        .expect("written in place");
    wait_for(&handle, |stats| stats.generation >= 3).await;
    let generation = handle.stats().generation;
    fs::remove_file(folder.path().join("shop.yaml")).expect("removed");
    wait_for(&handle, |stats| stats.generation > generation).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_configuration_and_says_where_it_is_broken() {
    let folder = TempDir::new().expect("a temporary folder");
    put(folder.path(), "greeter.yaml", &http_service("greeter", "10.96.0.10", &["127.0.1.1"]));
    let handle = watched(folder.path()).await;
    put(
        folder.path(),
        "shop.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  ports:\n  - port: 80000\n",
    );
    let stats = wait_for(&handle, |stats| stats.config_error.is_some()).await;
    assert_eq!(stats.generation, 1, "the broken configuration is not served");
    let error = stats.config_error.expect("waited for");
    assert!(error.contains("shop.yaml:6: Service: spec.ports[0].port: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
    put(folder.path(), "shop.yaml", &http_service("shop", "10.96.0.11", &[]));
    let stats = wait_for(&handle, |stats| stats.generation == 2).await;
    assert_eq!(stats.config_error, None);
}

#[tokio::test]
async fn the_statistics_file_is_replaced_as_a_whole() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("stats.json");
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port on loopback");
    let handle = Server::builder().stats_file(Some(file.clone())).serve(listener);
    let mut last = 0;
    handle.set_snapshot(Snapshot::default());
    in_time(&handle, async {
        while last != 2 {
            if let Ok(text) = fs::read_to_string(&file) {
                let stats: serde_json::Value = serde_json::from_str(&text).expect("never half a file");
                last = stats.get("generation").and_then(serde_json::Value::as_u64).expect("a generation");
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_file_that_nobody_listens_on_is_replaced() {
    let folder = TempDir::new().expect("a temporary folder");
    let address = format!("unix://{}", folder.path().join("xds.sock").display());
    let left_behind = std::os::unix::net::UnixListener::bind(folder.path().join("xds.sock")).expect("bound");
    drop(left_behind);
    let listener = Listener::bind(&address).await.expect("the old socket is dead");
    let error = Listener::bind(&address).await.expect_err("the new one lives");
    assert!(error.to_string().contains(&address), "{error}");
    drop(listener);
}
