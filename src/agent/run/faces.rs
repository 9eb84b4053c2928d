//! Starts the listeners for containers, pods and local programs.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Assembly, StartError};
use crate::agent::config::{ContainerConfig, PodIdentityConfig, UnixSocketConfig, WorkloadConfig};
use crate::agent::container::{Container, Workload};
use crate::agent::pod_identity::{self, PodIdentity};
use crate::agent::unix_socket::{self, Entry, SocketFile, UnixSocket};
use crate::agent::workload_token::WorkloadToken;
use crate::agent::world::{ContainerWorld, PodIdentityWorld, ProcessWorld, url};
use crate::base::digest::sha256;
use crate::files;

impl Assembly {
    /// Starts the container endpoint in the form of Amazon ECS.
    pub(super) async fn container(
        &mut self,
        config: &ContainerConfig,
    ) -> Result<ContainerWorld, StartError> {
        let mut first = None;
        let mut workloads = HashMap::new();
        let mut tokens = HashMap::new();
        for config in &config.workloads {
            let path = format!("/credentials/{}", config.name);
            let token = self.token(config)?;
            let text = token.text().unwrap_or_default();
            if let Some(other) = tokens.insert(sha256(text.as_bytes()), &config.name) {
                return Err(StartError::SameToken {
                    names: [other.clone(), config.name.clone()],
                });
            }
            first.get_or_insert_with(|| (path.clone(), text));
            let slot = self.handouts.pin(config.wanted.clone());
            self.pinned.push(slot.clone());
            workloads.insert(path, Workload::new(&config.name, token, slot));
        }
        let face = Container::new(workloads, self.parts());
        let key = "[container] address";
        let address = self.serve(key, &config.listeners, Arc::new(face)).await?;
        let world = address
            .zip(first)
            .map(|(address, (path, token))| ContainerWorld {
                full_uri: format!("{}{path}", url(address)),
                token,
            });
        Ok(world.unwrap_or_default())
    }

    fn token(&self, config: &WorkloadConfig) -> Result<WorkloadToken, StartError> {
        Ok(match &config.token_file {
            Some(path) => WorkloadToken::in_file(path, self.clock.clone(), &*self.entropy)?,
            None => WorkloadToken::generate(&*self.entropy)?,
        })
    }

    /// Starts the container endpoint in the form of EKS Pod Identity, on each of its addresses.
    pub(super) async fn pod_identity(
        &mut self,
        config: &PodIdentityConfig,
    ) -> Result<PodIdentityWorld, StartError> {
        let face = Arc::new(PodIdentity::new(
            config.cluster.clone(),
            i32::try_from(config.duration_seconds).ok(),
            self.handouts.clone(),
            self.parts(),
        ));
        let key = "[pod_identity] addresses";
        let address = self.serve(key, &config.listeners, face).await?;
        let full_uri = address.map(|address| format!("{}{}", url(address), pod_identity::PATH));
        Ok(PodIdentityWorld {
            full_uri: full_uri.unwrap_or_default(),
            token_file: config.token_file.clone(),
        })
    }

    /// Starts to listen on the Unix socket.
    pub(super) fn unix_socket(
        &mut self,
        config: &UnixSocketConfig,
    ) -> Result<(SocketFile, Option<ProcessWorld>), StartError> {
        let path = &config.path;
        files::check_folder(path)?;
        let (listener, socket) =
            unix_socket::listen(path, config.mode).map_err(|source| StartError::Socket {
                path: path.clone(),
                source,
            })?;
        let mut entries = Vec::new();
        for program in &config.programs {
            let slot = self.handouts.pin(program.wanted.clone());
            self.pinned.push(slot.clone());
            entries.push(Entry {
                name: program.name.as_str().into(),
                who: program.who.clone(),
                role_arn: program.role_arn.clone(),
                slot,
            });
        }
        let face = UnixSocket::new(entries, self.parts());
        let serve = unix_socket::serve(listener, self.most, Arc::new(face));
        self.tasks.push(tokio::spawn(serve));
        let first = config.programs.first();
        let world = first.and_then(|program| ProcessWorld::new(path, &program.role_arn));
        Ok((socket, world))
    }
}
