//! Groups of one and of three over pipes, in the test's own time.

use std::sync::Arc;

use kernel::outcome::Reply;
use tokio::time::Duration;

use crate::{ChangeError, Group, GroupError, Keeping, Lane, StartError};
use rig::{Home, Node, Switchboard, enter, group, join, key, leader, parts, patient, promote};

mod aside;
mod carry;
mod change;
mod hand_over;
mod log;
mod moves;
mod notices;
mod one;
pub(crate) mod rig;
mod tcp;
