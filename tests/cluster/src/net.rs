//! The network between supers, which can be cut.
//!
//! Where the machine allows, each super has a network of its own and its packets pass through this process's, where they
//! can be dropped without a word, as a broken switch does. Where it does not, supers reach each other through proxies of
//! this process, which stop to hand on bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use proxies::Proxies;
use spaces::Spaces;

mod proxies;
pub mod spaces;

/// Most supers at one time.
pub const SUPERS: usize = 5;

/// A network of up to [`SUPERS`] supers, numbered from 0.
#[derive(Debug)]
pub enum Net {
    /// A network namespace for each super.
    Spaces(Spaces),
    /// A proxy before each super.
    Proxies(Proxies),
}

/// Where a super listens, and where others reach it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// It listens here for nodes.
    pub grpc: SocketAddr,
    /// And here for people.
    pub rest: SocketAddr,
    /// Nodes reach it here.
    pub reached: SocketAddr,
}

impl Net {
    /// Networks of their own where this process may make some, else proxies.
    ///
    /// # Errors
    /// What the system says.
    pub async fn new() -> Result<Self> {
        if spaces::are_ours() {
            return Ok(Self::Spaces(Spaces::new()?));
        }
        Ok(Self::Proxies(Proxies::new().await?))
    }

    /// In words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Spaces(_) => "network namespaces",
            Self::Proxies(_) => "user-space proxies",
        }
    }

    /// Addresses of this machine that followers may come from; none: one for all.
    #[must_use]
    pub fn sources(&self) -> Vec<IpAddr> {
        match self {
            Self::Spaces(_) => Spaces::sources(),
            Self::Proxies(_) => Vec::new(),
        }
    }

    /// Whether nodes are seen at the port from which they connect.
    #[must_use]
    pub const fn keeps_ports(&self) -> bool {
        matches!(self, Self::Spaces(_))
    }

    /// Where a super is.
    ///
    /// # Errors
    /// There is no such number.
    pub fn place(&self, at: usize) -> Result<Place> {
        match self {
            Self::Spaces(_) => Spaces::place(at),
            Self::Proxies(proxies) => proxies.place(at),
        }
    }

    /// A command that runs where a super is.
    #[must_use]
    pub fn command(&self, at: usize, program: &Path) -> Command {
        match self {
            Self::Spaces(_) => Spaces::command(at, program),
            Self::Proxies(_) => Command::new(program),
        }
    }

    /// A super's process began: a proxy tells callers apart by it.
    pub fn runs(&self, at: usize, pid: u32) {
        if let Self::Proxies(proxies) = self {
            proxies.runs(at, pid);
        }
    }

    /// From now on nothing gets from one super to another, in this direction.
    ///
    /// # Errors
    /// What the system says.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        match self {
            Self::Spaces(_) => Spaces::cut(from, to),
            Self::Proxies(proxies) => {
                proxies.cut(from, to);
                Ok(())
            }
        }
    }

    /// From now on nothing gets to or from a super, whoever it is from.
    ///
    /// # Errors
    /// What the system says.
    pub fn isolate(&self, at: usize) -> Result<()> {
        match self {
            Self::Spaces(_) => Spaces::isolate(at),
            Self::Proxies(proxies) => {
                proxies.isolate(at);
                Ok(())
            }
        }
    }

    /// Everything passes again.
    ///
    /// # Errors
    /// What the system says.
    pub fn heal(&self) -> Result<()> {
        match self {
            Self::Spaces(_) => Spaces::heal(),
            Self::Proxies(proxies) => {
                proxies.heal();
                Ok(())
            }
        }
    }
}
