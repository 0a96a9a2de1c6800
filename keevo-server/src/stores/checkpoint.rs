//! The copy of a node in a folder: the same layout, to be started on or to be kept.
//!
//! ```text
//! FOLDER/node-ID/{node, data/, log/}     made as FOLDER/node-ID.partial, and renamed when it is complete and durable
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use keevo_core::data_dir::DataDir;
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as admin;
use keevo_raft::{IdentityStore, Node};

use super::{Stores, open_log};
use crate::identity::{IdentityFile, STORE};

impl Stores {
    /// Copies the node. What was made so far is removed when it fails.
    pub(crate) async fn checkpoint(
        &self,
        node: &Node,
        request: admin::CheckpointRequest,
    ) -> Result<admin::CheckpointResponse> {
        let folder = PathBuf::from(&request.folder);
        if !folder.is_absolute() {
            return Err(Error::invalid(format!("'{}' is no absolute path", folder.display())));
        }
        if node.storage().disk_full {
            return Err(Error::new(ErrorKind::ResourceExhausted, "the disk is full, so that no copy is made on it"));
        }
        let name = format!("node-{}", node.id());
        let (copy, partial) = (folder.join(&name), folder.join(format!("{name}.partial")));
        if copy.exists() || partial.exists() {
            return Err(Error::invalid(format!("there is something at {} already", copy.display())));
        }
        let made = self.copy_into(node, &partial).await.and_then(|()| put_in_place(&partial, &copy));
        if let Err(error) = made {
            if let Err(left) = std::fs::remove_dir_all(&partial) {
                tracing::warn!(folder = %partial.display(), error = %left, "an unfinished copy was not removed");
            }
            return Err(error);
        }
        let bytes = folder_bytes(&copy)?;
        tracing::info!(folder = %copy.display(), bytes, "a checkpoint was made");
        Ok(admin::CheckpointResponse { folder: copy.display().to_string(), node_id: node.id(), bytes })
    }

    async fn copy_into(&self, node: &Node, partial: &Path) -> Result<()> {
        let identity = self.folders.identity.load()?;
        let identity = identity.ok_or_else(|| Error::corrupt("the node has lost its identity file"))?;
        let data = DataDir::create(partial.join("data"), *self.folders.data.identity())?;
        let log = DataDir::create(partial.join("log"), *self.folders.log.identity())?;
        let copied = open_log(log.path(), &self.config)?;
        let (store, to) = (self.data.clone(), data.path().join(STORE));
        node.checkpoint(move || store.checkpoint(&to), copied.as_ref()).await?;
        tokio::task::spawn_blocking(move || drop(copied))
            .await
            .map_err(|error| Error::new(ErrorKind::Io, "the copied log was not closed").with_source(error))?;
        IdentityFile::in_dir(partial).save(&identity)
    }
}

/// Gives the copy its name, durably.
fn put_in_place(partial: &Path, copy: &Path) -> Result<()> {
    let rename = || -> std::io::Result<()> {
        std::fs::rename(partial, copy)?;
        copy.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    rename().map_err(|error| {
        Error::new(ErrorKind::Io, format!("the copy cannot be named {}", copy.display())).with_source(error)
    })
}

/// The size of all files below a folder.
fn folder_bytes(folder: &Path) -> Result<u64> {
    let sum = || -> std::io::Result<u64> {
        let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let found = entry.metadata()?;
                if found.is_dir() { folders.push(entry.path()) } else { bytes += found.len() }
            }
        }
        Ok(bytes)
    };
    sum().map_err(|error| Error::new(ErrorKind::Io, "the copy cannot be measured").with_source(error))
}
