//! The same over sockets, on threads and files, in real time.

use std::io;
use std::path::Path;

use kernel::id::NodeId;
use store::{Disk, Replica, SpoolRoom};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::*;
use crate::{Caller, Connecting, Connector, Io, Runs};
use rig::Pipe;

/// Says its key first: nobody lies here.
#[derive(Debug)]
struct Line(NodeId);

impl Connector for Line {
    fn connect(&self, to: &Replica, _: Lane) -> Connecting {
        let (me, address) = (self.0, to.address.clone());
        Box::pin(async move {
            let mut socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            socket.write_all(&me.0).await?;
            Ok(Box::new(socket) as Box<dyn Io>)
        })
    }
}

struct Seat {
    group: Group,
    address: String,
    serving: tokio::task::JoinHandle<()>,
    cut: CancellationToken,
}

/// Waits until nobody has the state's file any more: connections end a moment after they are cut.
async fn free(state: &Disk) {
    patient(async {
        while let Err(store::StoreError::InUse { .. }) = store::Store::open(state, 64 << 20) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn start(folder: &Path, n: u8, may_found: bool, listener: TcpListener) -> Seat {
    let address = listener.local_addr().unwrap().to_string();
    let (log, state) = (Disk::file(folder.join("log.redb")), Disk::file(folder.join("state.redb")));
    let home = Home { host: address.clone(), log, state, ..Home::new(n) };
    free(&home.state).await;
    let mut parts = parts(&home, Arc::new(Line(home.key())), may_found);
    parts.runs = Runs::OnThreads;
    parts.spools = SpoolRoom::folder(folder);
    let group = patient(Group::open(parts)).await.unwrap();
    let cut = CancellationToken::new();
    let cutting = cut.clone();
    let (door, pipes) = mpsc::channel(64);
    let server = Server::builder().add_service(group.server());
    let server =
        server.serve_with_incoming(tokio_stream::StreamExt::map(ReceiverStream::new(pipes), Ok::<_, io::Error>));
    let serving = tokio::spawn(async move {
        let accepting = async {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut caller = [0; 32];
                if socket.read_exact(&mut caller).await.is_ok() {
                    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
                    let cut = cutting.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = cut.cancelled() => {}
                            _ = tokio::io::copy_bidirectional(&mut socket, &mut ours) => {}
                        }
                    });
                    let _full = door.send(Pipe { caller: Caller(NodeId(caller)), io: Box::new(theirs) }).await;
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            _ended = server => {}
        }
    });
    Seat { group, address, serving, cut }
}

impl Seat {
    async fn kill(self) {
        self.cut.cancel();
        self.serving.abort();
        let _aborted = self.serving.await;
        patient(self.group.kill()).await;
    }
}

async fn has(group: &Group, members: usize) {
    let mut applied = group.applied();
    patient(async {
        while group.read(|state| state.members.len()) < members {
            applied.changed().await.unwrap();
        }
    })
    .await;
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_supers_over_sockets_lose_nothing_when_the_leader_is_killed() {
    let folders: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut seats = Vec::new();
    for (n, folder) in (0..).zip(&folders) {
        seats.push(start(folder.path(), n, n == 0, listen().await).await);
    }
    for n in 1..3 {
        let other = &seats[usize::from(n)];
        patient(seats[0].group.add(key(n), other.address.clone())).await.unwrap();
        patient(other.group.joined()).await.unwrap();
        patient(async {
            while let Err(error) = seats[0].group.promote(key(n)).await {
                assert!(matches!(&error, ChangeError::Refused { code, .. } if code != "full"), "{error}");
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let answers = patient(seats[1].group.propose_many((0..200).map(join).collect())).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(_)))), "{answers:?}");
    seats.remove(0).kill().await;
    let mut answered = 0;
    for n in 200..260 {
        match patient(seats[usize::from(n % 2)].group.propose(join(n))).await {
            Ok(answer) => {
                answer.unwrap();
                answered += 1;
            }
            Err(GroupError::Unknown | GroupError::NoLeader) => {
                patient(seats[0].group.propose(join(n))).await.unwrap().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answered > 0);
    for seat in &seats {
        patient(seat.group.linearizable()).await.unwrap();
        assert_eq!(seat.group.read(|state| state.members.len()), 260);
    }
    // The address is another one by now, so it is told what it missed only after the others know it again: as its old self
    // it is silent and known.
    let back = start(folders[0].path(), 0, false, listen().await).await;
    assert_eq!(back.group.replica(), Some(0));
    assert!(back.group.read(|state| state.members.len()) >= 200);
    for seat in seats {
        seat.kill().await;
    }
    back.kill().await;
    // All files are free again.
    for folder in &folders {
        assert!(store::LogFile::open(&Disk::file(folder.path().join("log.redb"))).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_on_a_file_answers_many_commands_for_one_flush() {
    let folder = tempfile::tempdir().unwrap();
    let seat = start(folder.path(), 0, true, listen().await).await;
    let began = std::time::Instant::now();
    let answers = patient(seat.group.propose_many((0..400).map(join).collect())).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(_)))));
    has(&seat.group, 400).await;
    eprintln!("400 commands in {:?}", began.elapsed());
    seat.kill().await;
}
