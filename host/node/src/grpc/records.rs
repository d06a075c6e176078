//! What a super serves about records: it takes them in from nodes, holds the validators' streams, and hands out the
//! directory. Everything is one stream or one call of a connection whose key is known.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kernel::id::NodeId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::pb;
use wire::pb::intake_server::Intake as Service;
use wire::records::{self, FromValidator, ToValidator};

use super::stream::Peer;
use crate::group::Group;
use crate::keys::NodeKey;
use crate::records::directory::Directory;
use crate::records::hub::{Hub, same_cluster};
use crate::records::intake::Intake;

/// Calls of one node that wait for their answers: it says no more meanwhile.
const CALLS: usize = 8;
/// For a validator's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Messages on their way to a validator, beside those that wait in the hub.
const OUT_ROOM: usize = 4;
/// A validator that takes nothing for so long is cut off.
const STUCK: Duration = Duration::from_secs(20);

/// The gRPC service.
pub type IntakeServer = pb::intake_server::IntakeServer<Records>;

/// See the module.
#[derive(Clone)]
pub struct Records {
    intake: Intake,
    hub: Hub,
    group: Group,
    key: Arc<NodeKey>,
}

/// The service.
#[must_use]
pub fn server(intake: Intake, hub: Hub, group: Group, key: Arc<NodeKey>) -> IntakeServer {
    IntakeServer::new(Records { intake, hub, group, key })
        .max_decoding_message_size(records::MESSAGE_BYTES)
        .max_encoding_message_size(records::MESSAGE_BYTES)
}

fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let peer = request.extensions().get::<Peer>();
    peer.map(Peer::node).ok_or_else(|| Status::internal("nobody knows who calls"))
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Records {
    type ForwardStream = Out<pb::OrderedRecords>;
    type SignStream = Out<pb::ToValidator>;

    async fn directory(&self, request: Request<pb::DirectoryRequest>) -> Result<Response<pb::DirectoryAnswer>, Status> {
        caller(&request)?;
        let now_ms = self.group.now_ms();
        let (cluster, directory) = self.group.read(|state| (state.meta.cluster.clone(), Directory::of(state, now_ms)));
        if !same_cluster(&request.get_ref().cluster, &cluster) {
            return Err(Status::failed_precondition(format!("this super belongs to {cluster}")));
        }
        let envelope = directory.signed(&self.key);
        let envelope = serde_json::to_vec(&envelope).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(pb::DirectoryAnswer { envelope }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRecords>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let node = caller(&request)?;
        let mut inbound = request.into_inner();
        // Answers go out in the order of the calls; so many are under way at once.
        let (out, answers) = mpsc::channel::<tokio::task::JoinHandle<_>>(CALLS);
        let intake = self.intake.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let handed = match records::handed(&message, node) {
                    Ok(handed) => handed,
                    Err(error) => {
                        tracing::debug!(%node, %error, "records that cannot be read");
                        let call = message.call;
                        let what = Err(("malformed".to_owned(), error.to_string()));
                        let told = tokio::spawn(async move { records::HandedAnswer { call, what } });
                        if out.send(told).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                let intake = intake.clone();
                let told = tokio::spawn(async move { intake.take(node, handed).await });
                if out.send(told).await.is_err() {
                    return;
                }
            }
        });
        let stream = tokio_stream::StreamExt::then(ReceiverStream::new(answers), async |told| match told.await {
            Ok(answer) => Ok(records::handed_answer_pb(&answer)),
            Err(_) => Err(Status::internal("taking the records failed")),
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn sign(&self, request: Request<Streaming<pb::FromValidator>>) -> Result<Response<Self::SignStream>, Status> {
        let node = caller(&request)?;
        let mut inbound = request.into_inner();
        let (out, outbound) = mpsc::channel(OUT_ROOM);
        let hub = self.hub.clone();
        tokio::spawn(async move {
            let say = async |what: &ToValidator| {
                let sent = timeout(STUCK, out.send(Ok(records::to_validator_pb(what)))).await;
                matches!(sent, Ok(Ok(())))
            };
            let hello = match timeout(HELLO_WITHIN, inbound.message()).await {
                Ok(Ok(Some(first))) => records::from_validator(first),
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            };
            let Ok(FromValidator::Hello(hello)) = hello else {
                let why = "the first message of a stream must be a hello".to_owned();
                say(&ToValidator::Refused("malformed".into(), why)).await;
                return;
            };
            let mut stream = match hub.attach(node, &hello).await {
                Ok((welcome, stream)) if say(&welcome).await => stream,
                Ok(_) => return,
                Err((code, detail)) => {
                    tracing::info!(%node, code, detail, "a validator was refused");
                    say(&ToValidator::Refused(code, detail)).await;
                    return;
                }
            };
            tracing::info!(%node, name = hello.name, "a validator attached");
            loop {
                tokio::select! {
                    what = stream.out.recv() => match what {
                        Some(what) if say(&what).await => {}
                        Some(_) | None => break,
                    },
                    message = inbound.message() => match message {
                        Ok(Some(message)) => match records::from_validator(message) {
                            Ok(what) => {
                                let hub = hub.clone();
                                // What goes into the log is not waited for here: seals of several batches are under way at once.
                                tokio::spawn(async move { hub.hear(node, what).await });
                            }
                            Err(error) => tracing::debug!(%node, %error, "a message that cannot be read"),
                        },
                        Ok(None) | Err(_) => break,
                    },
                }
            }
            tracing::info!(%node, "a validator's stream ended");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}
