//! What a round's two policy calls cost: each in a fresh instance under all limits, against the same rules natively. Before
//! that, what it costs to get a policy ready from its bytes.
//!
//! `cargo bench -p policy` prints ns a member and the ratio. Each figure of a call is the median of the fastest half of the
//! runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends when something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kernel::decide::{Call, LimitSettings, Members, Policy, RoundInput, Slot};
use kernel::id::Digest;
use policy::{Cache, Child, CompileLimits, Compiler, Engine, EngineOptions, admit, engine_name, prepare};

#[path = "../tests/it/native.rs"]
#[allow(dead_code, reason = "the bench runs the columns only, the tests run whole policies")]
mod native;

const BAN_CONFIG: &str = r#"{"ban":5,"ban_rounds":60,"suspend":3,"warn":2}"#;
const REWARD_CONFIG: &str = r#"{"points_per_round":10}"#;
const BAN: &[u8] = include_bytes!("../../../plugins/prebuilt/ban-strikes.wasm");
const REWARD: &[u8] = include_bytes!("../../../plugins/prebuilt/reward-flat.wasm");
/// Makes this program the compiler of its own engines.
const COMPILE: &str = "compile-component";

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == COMPILE) {
        return policy::compile_for_parent();
    }
    loads();
    calls();
    std::process::ExitCode::SUCCESS
}

/// From bytes to ready, the fastest run. An engine keeps what it loaded last, so each run has a new one, which is not timed.
fn loads() {
    let limits = LimitSettings::default();
    let dir = tempfile::tempdir().expect("a folder");
    let cache = || Some(Cache::new(dir.path().to_owned(), [1; 32], |file, why| println!("{}: {why}", file.display())));
    let program = std::env::current_exe().expect("this program");
    let child = || {
        let (program, arguments) = (program.clone(), vec![COMPILE.into()]);
        Compiler::Child(Child { program, arguments, limits: CompileLimits::default() })
    };
    println!(
        "slot     component bytes   compiled here ms   in a child ms   from the cache ms   here/cache   checklist ms"
    );
    for (slot, bytes, config) in [(Slot::Ban, BAN, BAN_CONFIG), (Slot::Reward, REWARD, REWARD_CONFIG)] {
        let load = |compiler: &dyn Fn() -> Compiler, cache: &dyn Fn() -> Option<Cache>| {
            let runs = (0..15).map(|_| {
                let options = EngineOptions { compiler: compiler(), own: Vec::new(), cache: cache() };
                let engine = Engine::with(options).expect("the engine starts");
                let started = Instant::now();
                drop(black_box(prepare(&engine, slot, bytes, config, &limits).expect("it is prepared")));
                started.elapsed()
            });
            runs.min().unwrap_or_default()
        };
        let here = load(&|| Compiler::InProcess, &|| None);
        let apart = load(&child, &|| None);
        let cached = load(&|| Compiler::InProcess, &cache);
        let engine = Engine::new().expect("the engine starts");
        let check = || drop(black_box(admit(&engine, slot, bytes, config, &limits).expect("it is admitted")));
        check();
        let checklist = time(check);
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        println!(
            "{slot:<8} {:>15}   {:>16.2}   {:>13.2}   {:>17.3}   {:>10.0}   {:>12.3}",
            bytes.len(),
            ms(here),
            ms(apart),
            ms(cached),
            here.as_secs_f64() / cached.as_secs_f64(),
            ms(checklist)
        );
    }
}

fn calls() {
    let limits = LimitSettings::default();
    let engine = Engine::new().expect("the engine starts");
    let admit =
        |slot, bytes: &[u8], config| admit(&engine, slot, bytes, config, &limits).expect("it is admitted").policy;
    let started = Instant::now();
    let ban = admit(Slot::Ban, BAN, BAN_CONFIG);
    let reward = admit(Slot::Reward, REWARD, REWARD_CONFIG);
    println!("{}, pooled: {}, both admitted in {:?}", engine_name(), engine.is_pooled(), started.elapsed());
    println!("members      slot     native ns/member  component ns/member   ratio   component ms   fuel/member");
    for population in [100, 1_000, 10_000, 100_000] {
        let (round, members) = round(population);
        let (native_round, native_members) = (native::round(&round), native::members(&members));
        let call = |config| Call { config, round: &round, members: &members, memory: &[] };
        let fuel = |fuel: u64| fuel / population as u64;

        assert!(
            ban.judge(&call(BAN_CONFIG)).result
                == Ok(native::judge::<ban_strikes::Strikes>(&call(BAN_CONFIG)).expect("it judges"))
        );
        let native_ban = time(|| {
            let judged = pingward_sdk::export::judge::<ban_strikes::Strikes>(
                BAN_CONFIG,
                &native_round,
                &native_members,
                Vec::new(),
            );
            black_box(judged.expect("it judges"));
        });
        let component_ban = time(|| drop(black_box(ban.judge(&call(BAN_CONFIG)).result.expect("it judges"))));
        line(population, "ban", native_ban, component_ban, fuel(ban.judge(&call(BAN_CONFIG)).fuel));

        assert!(
            reward.reward(&call(REWARD_CONFIG)).result
                == Ok(native::settle::<reward_flat::Flat>(&call(REWARD_CONFIG)).expect("it settles"))
        );
        let native_reward = time(|| {
            let settled = pingward_sdk::export::settle::<reward_flat::Flat>(
                REWARD_CONFIG,
                &native_round,
                &native_members,
                Vec::new(),
            );
            black_box(settled.expect("it settles"));
        });
        let component_reward =
            time(|| drop(black_box(reward.reward(&call(REWARD_CONFIG)).result.expect("it settles"))));
        line(population, "reward", native_reward, component_reward, fuel(reward.reward(&call(REWARD_CONFIG)).fuel));

        line(population, "both", native_ban + native_reward, component_ban + component_reward, 0);
    }
}

fn line(population: usize, slot: &str, native: Duration, component: Duration, fuel: u64) {
    let each = |time: Duration| time.as_nanos() as f64 / population as f64;
    let ratio = component.as_secs_f64() / native.as_secs_f64();
    let ms = component.as_secs_f64() * 1_000.0;
    println!(
        "{population:<12} {slot:<8} {:>16.1}  {:>19.1}  {ratio:>6.2}  {ms:>13.3}  {fuel:>12}",
        each(native),
        each(component)
    );
}

/// Nine in ten answer, some are warned or suspended.
fn round(population: usize) -> (RoundInput, Members) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut members = Members::default();
    for at in 0..population {
        let presence = match random(20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        members.presence.push(presence);
        members.facts.push(if presence == 0 { 2 } else { 0 });
        members.rtt_us.push(300 + random(50_000) as u32);
        members.observers.push(0x0101);
        members.age.push(at as u32);
        let strikes = if random(10) == 0 { random(4) as u16 } else { 0 };
        members.strikes.push(strikes);
        members.standing.push(strikes.saturating_sub(1) as u8);
        members.earned.push(random(10_000));
        members.data.push(random(1_000));
        members.class.push(0);
        members.group.push(random(500) as u32);
        members.flags.push(0);
    }
    let round = RoundInput {
        number: 1_000,
        now_ms: 1_767_225_600_000,
        elapsed_ms: 10_000,
        interval_ms: 10_000,
        population: population as u32,
        suspect: false,
        seed: Digest::of(b"bench"),
    };
    (round, members)
}

/// The usual time of a run, without those that something else on the machine slowed down.
fn time(mut run: impl FnMut()) -> Duration {
    let until = Instant::now() + Duration::from_millis(700);
    let mut times = Vec::new();
    while times.len() < 20 || (Instant::now() < until && times.len() < 5_000) {
        let started = Instant::now();
        run();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 4).copied().unwrap_or_default()
}
