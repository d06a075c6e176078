//! Starts a bootstrap node: it keeps the newest directory that supers signed and hands it to whoever asks. It holds nothing
//! else, and nothing breaks when it is gone.

use anyhow::bail;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use wire::pb;

use super::{Base, Node, StartParts, bind, endless};
use crate::config::Storage;
use crate::context::{BootstrapPart, Part};
use crate::events::Events;
use crate::grpc::Services;
use crate::known::Known;
use crate::listen::Gate;
use crate::records::book::Book;
use crate::records::hub::same_name;
use crate::records::ingress::now_ms;
use crate::records::validator::Way;
use crate::{grpc, tls};

pub(super) async fn start(base: Base, parts: StartParts) -> anyhow::Result<Node> {
    let config = &base.config;
    for note in &config.notes {
        tracing::warn!(note, "config");
    }
    if config.supers.is_empty() {
        bail!("cluster.supers is empty: a bootstrap node needs the address of a super, such as [\"10.0.0.1:7001\"]");
    }
    let listener = bind(config.grpc, "listen.grpc").await?;
    let grpc_address = listener.local_addr()?;
    let keeps = config.storage == Storage::Disk;
    let known = if keeps { Known::open(&config.data_dir)? } else { Known::in_memory() };
    let way = Way { key: base.key.clone(), known, wires: parts.wires };
    let book = Book::open(way, &config.cluster_id, keeps.then_some(config.data_dir.as_path()));
    let (tasks, draining) = (base.tasks.clone(), base.tasks.draining());
    let supers = super::follower::supers_of(&config.supers, book.directory(), None, &tasks);
    let (_, need) = watch::channel(true);
    tasks.spawn("the directory", endless(book.clone().keep(supers, need, draining.clone())));

    let limits = base.grpc_limits();
    let gate = Gate::new(limits, base.metrics.connections_refused.clone());
    let services = Services::of_bootstrap(server(config.cluster_id.clone(), book.envelope()));
    tasks.spawn("gRPC", endless(grpc::serve(listener, gate, tls::server(&base.key)?, services, None, draining)));

    let (node, rest) = (base.key.id(), base.rest_address);
    let context = base.context(
        Events::new(now_ms()),
        Part::Bootstrap(BootstrapPart { directory: book.directory(), envelope: book.envelope() }),
    );
    tracing::info!(%node, name = config.name, cluster = config.cluster_id, grpc = %grpc_address, %rest, "bootstrap");
    base.serve_rest(&context)?;
    Ok(Node { tasks, context, grpc: Some(grpc_address), rest })
}

/// The gRPC service.
pub(crate) type DirectoryServer = pb::intake_server::IntakeServer<HandsOut>;

/// Hands out the directory, and nothing else.
#[derive(Clone)]
pub(crate) struct HandsOut {
    cluster_id: String,
    envelope: watch::Receiver<Vec<u8>>,
}

fn server(cluster_id: String, envelope: watch::Receiver<Vec<u8>>) -> DirectoryServer {
    DirectoryServer::new(HandsOut { cluster_id, envelope }).max_encoding_message_size(wire::records::MESSAGE_BYTES)
}

type Nothing<T> = tokio_stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl pb::intake_server::Intake for HandsOut {
    type ForwardStream = Nothing<pb::OrderedRecords>;
    type SignStream = Nothing<pb::ToValidator>;

    async fn directory(&self, request: Request<pb::DirectoryRequest>) -> Result<Response<pb::DirectoryAnswer>, Status> {
        if !same_name(&request.get_ref().cluster, &self.cluster_id) {
            return Err(Status::failed_precondition(format!("this bootstrap node is of `{}`", self.cluster_id)));
        }
        let envelope = self.envelope.borrow().clone();
        if envelope.is_empty() {
            return Err(Status::unavailable("no super has told this bootstrap node the directory yet"));
        }
        Ok(Response::new(pb::DirectoryAnswer { envelope }))
    }

    async fn forward(
        &self,
        _: Request<tonic::Streaming<pb::ForwardRecords>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        Err(Status::unimplemented("a bootstrap node takes no records"))
    }

    async fn sign(
        &self,
        _: Request<tonic::Streaming<pb::FromValidator>>,
    ) -> Result<Response<Self::SignStream>, Status> {
        Err(Status::unimplemented("a bootstrap node has no validators"))
    }
}
