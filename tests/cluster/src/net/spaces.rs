//! Network namespaces: super N has the address 10.77.N.2 behind a cable of its own, whose other end, 10.77.N.1, is here.
//!
//! This process must run in a network and a mount namespace of its own, which [`enter`] sees to: nothing that it does is
//! seen outside, and everything is gone when it ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Place, SUPERS};

/// Addresses that followers come from.
const SOURCES: u8 = 16;
/// Set for the process that has namespaces of its own.
const ENTERED: &str = "FAULTS_OWN_NETWORK";
/// What makes a network in which networks can be made. `ip netns` keeps their names in `/run`.
const PREPARE: &str =
    "mount -t tmpfs tmpfs /run && ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward && exec \"$0\" \"$@\"";
/// What must be possible there.
const TRY: &str = "mount -t tmpfs tmpfs /run && ip netns add a && ip link add v type veth peer name w netns a && \
                   ip rule add from 10.77.1.2 to 10.77.2.2 blackhole && echo 1 >/proc/sys/net/ipv4/ip_forward && \
                   nsenter --net=/run/netns/a true";

/// See the module.
#[derive(Debug)]
pub struct Spaces(());

/// Whether this process is in namespaces of its own.
#[must_use]
pub fn are_ours() -> bool {
    std::env::var_os(ENTERED).is_some()
}

/// Starts this program again in namespaces of its own, if the machine allows them; else returns.
///
/// # Errors
/// They are allowed, and the program cannot be started there.
pub fn enter() -> Result<()> {
    if are_ours() || std::env::var_os("FAULTS_NO_NETWORK").is_some() {
        return Ok(());
    }
    let tried = Command::new("unshare").args(["-rnm", "sh", "-c", TRY]).stdin(Stdio::null()).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return Ok(());
    }
    let program = std::env::current_exe().context("this program's own path")?;
    let mut command = Command::new("unshare");
    command.args(["-rnm", "sh", "-c", PREPARE]).arg(program).args(std::env::args_os().skip(1)).env(ENTERED, "1");
    Err(command.exec()).context("starting in a network of its own")
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}

impl Spaces {
    pub(super) fn new() -> Result<Self> {
        for source in Self::sources() {
            ip(&format!("addr add {source}/32 dev lo"))?;
        }
        for at in 0..SUPERS {
            ip(&format!("netns add s{at}"))?;
            ip(&format!("link add r{at} type veth peer name e netns s{at}"))?;
            ip(&format!("addr add 10.77.{at}.1/24 dev r{at}"))?;
            ip(&format!("link set r{at} up"))?;
            ip(&format!("-n s{at} addr add 10.77.{at}.2/24 dev e"))?;
            ip(&format!("-n s{at} link set lo up"))?;
            ip(&format!("-n s{at} link set e up"))?;
            ip(&format!("-n s{at} route add default via 10.77.{at}.1"))?;
        }
        Ok(Self(()))
    }

    /// Of each a super takes a bounded number of connections.
    pub(super) fn sources() -> Vec<IpAddr> {
        (1..=SOURCES).map(|last| Ipv4Addr::new(10, 78, 0, last).into()).collect()
    }

    pub(super) fn place(at: usize) -> Result<Place> {
        let ip = Ipv4Addr::new(10, 77, u8::try_from(at)?, 2);
        let (grpc, rest) = (SocketAddr::from((ip, 7001)), SocketAddr::from((ip, 8080)));
        Ok(Place { grpc, rest, reached: grpc })
    }

    pub(super) fn command(at: usize, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/s{at}")).arg(program);
        command
    }

    pub(super) fn cut(from: usize, to: usize) -> Result<()> {
        ip(&format!("rule add from 10.77.{from}.2 to 10.77.{to}.2 blackhole"))
    }

    /// Pulls its cable.
    pub(super) fn isolate(at: usize) -> Result<()> {
        ip(&format!("link set r{at} down"))
    }

    pub(super) fn heal() -> Result<()> {
        // Rules are deleted one by one, until none is left.
        while ip("rule del blackhole").is_ok() {}
        for at in 0..SUPERS {
            ip(&format!("link set r{at} up"))?;
        }
        Ok(())
    }
}
