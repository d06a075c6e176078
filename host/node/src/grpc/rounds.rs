//! What other supers say about rounds: the gRPC service of their part in them. It puts what comes into the loop's mailbox
//! for supers, and is called by supers only, because nobody else's connection is led to it.

use kernel::id::NodeId;
use raft::Caller;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use wire::pb;
use wire::pb::super_server::Super;
use wire::rounds;

use crate::mail::SuperMail;

/// The gRPC service.
pub type RoundsServer = pb::super_server::SuperServer<Rounds>;

/// The service over a mailbox.
#[must_use]
pub fn server(mailbox: mpsc::Sender<SuperMail>) -> RoundsServer {
    RoundsServer::new(Rounds { mailbox })
        .max_decoding_message_size(rounds::MESSAGE_BYTES)
        .max_encoding_message_size(rounds::MESSAGE_BYTES)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Rounds {
    mailbox: mpsc::Sender<SuperMail>,
}

impl Rounds {
    async fn put(&self, mail: SuperMail) -> Result<(), Status> {
        self.mailbox.send(mail).await.map_err(|_| Status::unavailable("this super is stopping"))
    }
}

fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let caller = request.extensions().get::<Caller>().copied();
    caller.map(|caller| caller.0).ok_or_else(|| Status::internal("nobody knows who calls"))
}

#[tonic::async_trait]
impl Super for Rounds {
    async fn open(&self, request: Request<pb::OpenRequest>) -> Result<Response<pb::OpenAnswer>, Status> {
        let from = caller(&request)?;
        let open = rounds::open(request.get_ref());
        self.put(SuperMail::Open { from, open }).await?;
        Ok(Response::new(pb::OpenAnswer {}))
    }

    async fn report(&self, request: Request<pb::ReportRequest>) -> Result<Response<pb::ReportAnswer>, Status> {
        let from = caller(&request)?;
        let signed = rounds::report(request.into_inner());
        let signed = signed.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if signed.signer != from {
            return Err(Status::permission_denied(format!("{from} brings the report of {}", signed.signer)));
        }
        let (taken, answer) = oneshot::channel();
        self.put(SuperMail::Report { signed: Box::new(signed), taken }).await?;
        let taken = answer.await.map_err(|_| Status::unavailable("this super is stopping"))?;
        Ok(Response::new(pb::ReportAnswer { taken }))
    }
}
