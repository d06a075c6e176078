//! The gate: two hundred seeds, the same seed twice, and planted bugs.

mod several;

use several::{caught, happened, many, nothing_is_wrong};
use sim::{Options, Plant, S, Scene, play};

/// Seeds that told of a wrong rule once.
const TOLD: [u64; 8] = [1_004, 1_162, 1_314, 1_329, 1_334, 1_347, 1_371, 1_554];
/// Seeds of the gate, and the least time that each plays.
const SEEDS: u64 = 200;
const LEAST_US: u64 = 600 * S;

#[test]
fn two_hundred_clusters_strike_nobody_lose_nothing_and_come_to_rest() {
    let mut all = many(0..SEEDS, Options::default(), |_| false);
    all.extend(TOLD.map(|seed| play(seed, Options::default())));
    nothing_is_wrong(&all, "");
    assert_eq!(all.len() as u64, SEEDS + TOLD.len() as u64);
    assert!(all.iter().all(|played| played.simulated_us >= LEAST_US));
    // That all went well means something where all of this happened.
    happened(
        &all,
        &[
            ("kills", 300),
            ("power cuts", 300),
            ("pauses", 300),
            ("partitions", 300),
            ("one-way cuts", 300),
            ("storms", 300),
            ("slow disks", 300),
            ("clock jumps", 300),
            ("group changes", 100),
            ("groups changed", 50),
            ("deaths", 1_000),
            ("illnesses", 1_000),
            ("path cuts", 1_000),
            ("swaps", 300),
            ("messages lost", 10_000),
            ("messages doubled", 10_000),
            ("snapshots installed", 50),
            ("supers closed", 500),
            ("leaders", 1_000),
            ("streams lost", 10_000),
            ("rounds trusted", 60_000),
            ("rounds suspect", 1_000),
            ("claims answered", 10_000),
            ("dead and suspended", 100),
            ("well and up", 1_000_000),
            ("well and unknown", 1_000),
            ("well in calm", 200_000),
        ],
    );
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in 0..6 {
        let options = Options { told: true, length_us: 200 * S, ..Options::default() };
        let (first, again) = (play(seed, options), play(seed, options));
        assert!(first.lines.len() > 100 && first.lines == again.lines, "seed {seed}");
        assert_eq!((first.digest, first.events), (again.digest, again.events));
        // That somebody listens changes nothing.
        let quiet = play(seed, Options { told: false, ..options });
        assert_eq!((first.digest, first.counts), (quiet.digest, quiet.counts));
    }
    assert_ne!(play(1, Options::default()).digest, play(2, Options::default()).digest);
}

/// 1 % loss and 200 ms of jitter each way, two supers each, rounds as they are by default.
#[test]
fn a_thousand_hours_of_bad_paths_put_nobody_out() {
    let all = many(0..9, Options { scene: Scene::Paths, ..Options::default() }, |_| false);
    let count = |what: &str| all.iter().filter_map(|played| played.counts.get(what)).sum::<u64>();
    assert!(all.iter().all(|played| played.wrong.is_none()));
    assert!(count("member rounds") * 10 / 3_600 >= 950, "follower-hours");
    assert_eq!((count("false suspensions"), count("turns missed")), (0, 0));
}

#[test]
fn neither_the_log_nor_the_state_grows_with_the_rounds() {
    let played = play(3, Options { scene: Scene::Long, length_us: 7_000 * S, ..Options::default() });
    assert_eq!(played.wrong, None);
    assert!(played.counts["rounds settled"] > 6_500);
    // Five members, their wallets, up to eight seats, and the candidates of two slots; 100,000 rounds make no more of it.
    let (log, state) = (played.counts["longest log"], played.counts["largest state, bytes"]);
    assert!(log <= 450 && state <= 6_000, "{log} entries, {state} bytes");
}

fn of(plant: Plant) -> Options {
    Options { plant, ..Options::default() }
}

#[test]
fn a_leader_that_counts_to_one_is_caught() {
    caught(of(Plant::NoQuorum), 60, &["was committed in term", "is to drop the committed entry"]);
}

#[test]
fn a_settlement_that_is_applied_twice_is_caught() {
    caught(of(Plant::SettledTwice), 10, &["has another state than the log gives"]);
}

#[test]
fn a_strike_in_a_suspect_round_is_caught() {
    caught(of(Plant::StrikesInDoubt), 10, &["and its report gives"]);
}

#[test]
fn an_absence_that_stays_unknown_for_ever_is_caught() {
    caught(of(Plant::AbsentForEver), 60, &["died in time and is", "at rest follower"]);
}

#[test]
fn a_grace_that_does_not_go_with_the_member_is_caught() {
    caught(of(Plant::NoWay), 100, &["was up, and is down in round"]);
}
