//! The gate over the Raft that the program has: twenty seeds, the same seed twice, and planted bugs.
#![cfg(feature = "real")]

mod several;

use several::{caught, happened, many, nothing_is_wrong};
use sim::{Options, Plant, S, Scene, play};

/// Seeds of the gate, and the least time that each plays.
const SEEDS: u64 = 20;
const LEAST_US: u64 = 600 * S;

const REAL: Options = Options { plant: Plant::Nothing, told: false, scene: Scene::Real, length_us: 0 };

#[test]
fn twenty_clusters_over_the_real_raft_lose_nothing_and_come_to_rest() {
    let all = many(0..SEEDS, REAL, |_| false);
    nothing_is_wrong(&all, "--real ");
    assert_eq!(all.len() as u64, SEEDS);
    assert!(all.iter().all(|played| played.simulated_us >= LEAST_US));
    // That all went well means something where all of this happened.
    happened(
        &all,
        &[
            ("leaders", 60),
            ("restarts", 100),
            ("kills", 50),
            ("power cuts", 50),
            ("pauses", 50),
            ("partitions", 40),
            ("one-way cuts", 40),
            ("storms", 40),
            ("clock jumps", 20),
            ("group changes", 40),
            ("groups changed", 30),
            ("memberships applied", 100),
            ("snapshots installed", 15),
            ("rounds settled", 2_500),
            ("claims answered", 1_500),
            ("reads", 3_000),
            ("well and up", 10_000),
        ],
    );
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 0..2 {
        let options = Options { told: true, length_us: 160 * S, ..REAL };
        let (first, again) = (play(seed, options), play(seed, options));
        assert!(first.lines.len() > 50 && first.lines == again.lines, "seed {seed}");
        assert_eq!((first.digest, first.events), (again.digest, again.events));
        // That somebody listens changes nothing.
        let quiet = play(seed, Options { told: false, ..options });
        assert_eq!((first.digest, first.counts), (quiet.digest, quiet.counts));
    }
}

fn of(plant: Plant) -> Options {
    Options { plant, ..REAL }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_caught() {
    caught(of(Plant::LyingDisk), 20, &["has lost what it had applied"]);
}

#[test]
fn a_local_read_that_is_said_to_see_everything_is_caught() {
    caught(of(Plant::LocalRead), 20, &["a read on super"]);
}

#[test]
fn an_answer_before_the_group_has_the_command_is_caught() {
    caught(of(Plant::EarlyAnswer), 20, &["was acknowledged and is lost"]);
}

#[test]
fn a_settlement_that_is_applied_twice_on_a_disk_is_caught() {
    caught(of(Plant::SettledTwice), 20, &["has another state than the log gives"]);
}
