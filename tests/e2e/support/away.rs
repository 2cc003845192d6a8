//! Pods that are away while their volumes stay, and what is done to these meanwhile.

use std::path::PathBuf;
use std::process::Command;

use kube::ResourceExt;
use kube::api::DeleteParams;

use super::fault;
use super::shell::sh;
use super::wait::{eventually, expect, secs};
use super::{Store, World};

/// A Pod that cannot run, as its node takes none. It comes back when this is dropped.
pub(crate) struct Away {
    node: String,
}

impl Away {
    /// Sends a Pod away, and waits until its process has ended.
    pub(crate) async fn send(store: &Store<'_>, pod: &str) -> Self {
        let found = store.pod(pod).await;
        let node = found.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = node.expect("a node");
        sh("kubectl", &["cordon", &node]).await;
        let away = Self { node };
        let pods = store.pods_api();
        let deleted = pods.delete(pod, &DeleteParams::default()).await;
        let _ = deleted.expect("deleting the Pod");
        eventually(secs(60), &format!("Pod {pod} is away"), async || {
            let now = store.pods_api().get_opt(pod).await;
            let now = now.map_err(|error| error.to_string())?;
            let gone = now.is_none_or(|now| now.uid() != found.uid());
            expect(gone, || "it is still there".to_owned())
        })
        .await;
        away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let done = Command::new("kubectl")
            .args(["uncordon", &self.node])
            .output();
        if !done.is_ok_and(|done| done.status.success()) {
            eprintln!("node {} is still cordoned", self.node);
        }
    }
}

/// What was on the volume of a Pod.
pub(crate) struct Image {
    file: PathBuf,
}

impl Image {
    /// Saves what is on the volume of a Pod that is away.
    pub(crate) async fn save(world: &World, pod: &str) -> Self {
        let name = format!(
            "volume-{}-{pod}-{}.tar",
            world.namespace,
            std::process::id()
        );
        let file = std::env::temp_dir().join(name);
        let image = Self { file };
        fault::save_volume(world, pod, &image.file.to_string_lossy()).await;
        image
    }

    /// Puts it in the place of what is on the volume of a Pod that is away.
    pub(crate) async fn put(&self, world: &World, pod: &str) {
        fault::put_volume(world, pod, &self.file.to_string_lossy()).await;
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
