//! One rule in WebAssembly, natively, in Lua and in Rhai: nanoseconds a member, from 100 members to a million.
//!
//! The rule is the cookbook's `ripe-atlas` with `post_secs = 0`: it remembers four bytes of each member and divides once a
//! round. All of them get the host's columns and give back columns; what it takes to hand them over is part of the time,
//! but for the native rule, which reads them where they are. All must give the same answer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use kernel::decide::{Call, LimitSettings, Members, Policy, RoundInput, Slot};
use kernel::id::Digest;
use pingward_sdk::export;
use policy::Engine;

use crate::figures::{Samples, print_target};
use crate::native::{columns, round_of};
use crate::scripts::{self, Script};

const COMPONENT: &[u8] = include_bytes!("../../../plugins/prebuilt/cookbook/ripe-atlas.wasm");
const CONFIG: &str = r#"{"post_secs":0}"#;
/// Bytes that the rule remembers of a member.
const MEMORY: usize = 4;
/// How long one figure is measured, at least.
const EACH: Duration = Duration::from_millis(600);

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Populations.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000, 1_000_000])]
    members: Vec<u32>,
    /// Script engines get no more members than this: they take seconds.
    #[arg(long, default_value_t = 100_000)]
    scripts_up_to: u32,
}

/// Medians of one population, ns a member.
struct Line {
    members: u32,
    native: f64,
    wasm: f64,
    scripts: Vec<Option<f64>>,
    fuel: u64,
}

/// Measures and prints; returns whether all targets were met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let engine = Engine::new()?;
    let admitted = policy::admit(&engine, Slot::Reward, COMPONENT, CONFIG, &LimitSettings::default())
        .map_err(|findings| anyhow::anyhow!("{findings}"))?;
    let mut scripts = scripts::all()?;
    println!("ns a member, median of interleaved runs; {}, pooled: {}", policy::engine_name(), engine.is_pooled());
    print!("{:>9} {:>9} {:>12} {:>8} {:>12}", "members", "native", "WebAssembly", "ratio", "fuel/member");
    for script in &scripts {
        print!(" {:>12} {:>10}", script.name(), "x of wasm");
    }
    println!();
    let mut lines = Vec::new();
    for members in &options.members {
        let line = measure(*members, &admitted.policy, &mut scripts, *members <= options.scripts_up_to)?;
        let ratio = line.wasm / line.native;
        print!("{members:>9} {:>9.2} {:>12.2} {ratio:>8.2} {:>12}", line.native, line.wasm, line.fuel);
        for each in &line.scripts {
            match each {
                Some(each) => print!(" {each:>12.1} {:>10.1}", each / line.wasm),
                None => print!(" {:>12} {:>10}", "-", "-"),
            }
        }
        println!();
        lines.push(line);
    }
    if scripts.is_empty() {
        println!("\nbuilt without script engines: add `--features bench/scripts` for Lua and Rhai");
    }
    Ok(judge(&lines, &scripts))
}

fn judge(lines: &[Line], scripts: &[Box<dyn Script>]) -> bool {
    println!("\ntargets");
    let mut met = true;
    let at = |members: u32| lines.iter().find(|line| line.members == members);
    for (members, target) in [(10_000, 3.0), (100_000, 2.5)] {
        if let Some(line) = at(members) {
            met &=
                print_target(&format!("WebAssembly against native, {members}"), line.wasm / line.native, target, "x");
        }
    }
    if let Some(line) = at(10_000) {
        for (script, each) in scripts.iter().zip(&line.scripts) {
            let Some(each) = each else { continue };
            // Below the target when the script takes as many times as long.
            let share = line.wasm * script.target() / each;
            met &=
                print_target(&format!("{} times as fast as {}, share", script.target(), script.name()), share, 1.0, "");
        }
    }
    if let (Some(small), Some(large)) = (at(10_000), at(1_000_000)) {
        met &= print_target("a member of 1,000,000 against one of 10,000", large.wasm / small.wasm, 2.0, "x");
    }
    met
}

fn measure(members: u32, policy: &dyn Policy, scripts: &mut [Box<dyn Script>], with_scripts: bool) -> Result<Line> {
    let (round, all) = population(members as usize);
    let memory: Vec<u8> = (0..all.len()).flat_map(|at| (at as u32 % 4_000).to_le_bytes()).collect();
    ensure!(memory.len() == all.len() * MEMORY, "the rule remembers {MEMORY} bytes a member");
    let call = Call { config: CONFIG, round: &round, members: &all, memory: &memory };
    let (native_round, native_members) = (round_of(&call), columns(&all));
    let natively = || export::settle::<ripe_atlas::Credits>(CONFIG, &native_round, &native_members, memory.clone());

    let expected = natively().map_err(anyhow::Error::msg)?;
    let run = policy.reward(&call);
    let fuel = run.fuel / u64::from(members.max(1));
    let decided = run.result.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    ensure!(
        (&decided.points, &decided.reasons, &decided.memory) == (&expected.points, &expected.reasons, &expected.memory),
        "the component differs from its native twin"
    );
    if with_scripts {
        for script in scripts.iter_mut() {
            let decided = script.settle(&round, &all, &memory)?;
            ensure!(
                (&decided.points, &decided.reasons, &decided.memory)
                    == (&expected.points, &expected.reasons, &expected.memory),
                "{} differs from the native twin",
                script.name()
            );
        }
    }

    let (mut native, mut wasm) = (Samples::default(), Samples::default());
    // One after the other, so that what else the machine does falls on both.
    let until = Instant::now() + EACH;
    let mut runs = 0;
    while runs < 15 || Instant::now() < until {
        drop(black_box(native.time(natively)));
        drop(black_box(wasm.time(|| policy.reward(&call))));
        runs += 1;
    }
    let each = |samples: &Samples| samples.median().as_nanos() as f64 / f64::from(members);
    let mut figures = Vec::new();
    for script in scripts {
        if !with_scripts {
            figures.push(None);
            continue;
        }
        let (mut samples, mut runs) = (Samples::default(), 0);
        let until = Instant::now() + EACH;
        while runs < 3 || (Instant::now() < until && runs < 1_000) {
            black_box(samples.time(|| script.settle(&round, &all, &memory))?);
            runs += 1;
        }
        figures.push(Some(each(&samples)));
    }
    Ok(Line { members, native: each(&native), wasm: each(&wasm), scripts: figures, fuel })
}

/// Nine in ten answer, one in twenty is suspended, one in a hundred is an anchor.
fn population(members: usize) -> (RoundInput, Members) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut all = Members::default();
    for at in 0..members {
        let presence = match random(20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        all.presence.push(presence);
        all.facts.push(if presence == 0 { 2 } else { 0 });
        all.rtt_us.push(300 + random(50_000) as u32);
        all.observers.push(0x0101);
        all.age.push(at as u32);
        all.strikes.push(0);
        all.standing.push(if random(20) == 0 { 2 } else { 0 });
        all.earned.push(random(10_000));
        all.data.push(random(1_000));
        all.class.push(u32::from(random(100) == 0));
        all.group.push(random(500) as u32);
        all.flags.push(0);
    }
    let round = RoundInput {
        number: 1_000,
        now_ms: 1_767_225_600_000,
        elapsed_ms: 10_000,
        interval_ms: 10_000,
        population: members as u32,
        suspect: false,
        seed: Digest::of(b"bench"),
    };
    (round, all)
}
