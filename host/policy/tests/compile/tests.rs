use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel::decide::Slot;
use policy::{Admitted, Child, CompileLimits, Compiler, Engine, EngineOptions, Findings, admit};

use crate::guests::{BAN_STRIKES, REWARD_FLAT, judge, limits};
use crate::{COMPILE, bombs};

macro_rules! all {
    ($($name:ident),* $(,)?) => { pub const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*]; };
}
all![
    code_of_a_child_decides_as_code_of_this_process,
    what_is_wrong_with_a_component_reads_the_same_from_a_child,
    the_limits_are_in_force_before_the_component_is_read,
    a_command_that_nobody_asked_says_whose_it_is,
    a_compiler_that_is_none_is_a_finding_and_leaves_nothing_behind,
    every_bomb_ends_at_a_limit_with_its_words_and_takes_nothing_of_this_process,
    odd_shapes_are_taken_or_refused_and_never_fell_a_process,
];

/// A test takes as long as the slowest machine needs; the limits under test are lower.
const AMPLE: CompileLimits =
    CompileLimits { memory_bytes: 1 << 30, cpu_s: 60, wall: Duration::from_secs(600), threads: 1 };

fn this_program(limits: CompileLimits) -> Child {
    Child { program: std::env::current_exe().unwrap(), arguments: vec![COMPILE.into()], limits }
}

fn engine(child: Child) -> Engine {
    Engine::with(EngineOptions { compiler: Compiler::Child(child), ..EngineOptions::default() }).unwrap()
}

fn admitted(engine: &Engine, bytes: &[u8]) -> Result<Admitted, Findings> {
    admit(engine, Slot::Ban, bytes, "{}", &limits())
}

#[track_caller]
fn refused(engine: &Engine, bytes: &[u8], check: &str, words: &str) {
    let findings = admitted(engine, bytes).expect_err("it was admitted");
    assert_eq!(findings.0.len(), 1, "{findings}");
    assert_eq!(findings.0[0].check, check, "{findings}");
    assert!(findings.to_string().contains(words), "{findings}\nlacks: {words}");
}

/// Processes that this one started and nobody has waited for, and those that still run.
fn children() -> Vec<String> {
    let ours = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    // After the name, which may have spaces: state, then the parent.
    let of = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned);
    stats.filter(|stat| of(stat).as_ref() == Some(&ours)).collect()
}

/// The most memory that this process ever had, kB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn code_of_a_child_decides_as_code_of_this_process() {
    let (child, here) = (engine(this_program(AMPLE)), Engine::new().unwrap());
    let (theirs, ours) = (admitted(&child, BAN_STRIKES).unwrap(), admitted(&here, BAN_STRIKES).unwrap());
    assert_eq!((theirs.digest, &theirs.description), (ours.digest, &ours.description));
    assert_eq!(judge(&theirs.policy, "{}").unwrap(), judge(&ours.policy, "{}").unwrap());
    let threads = engine(this_program(CompileLimits { threads: 3, ..AMPLE }));
    assert!(admit(&threads, Slot::Reward, REWARD_FLAT, "{}", &limits()).is_ok());
    assert_eq!(children(), Vec::<String>::new());
}

fn what_is_wrong_with_a_component_reads_the_same_from_a_child() {
    let (child, here) = (engine(this_program(AMPLE)), Engine::new().unwrap());
    let mut flipped = BAN_STRIKES.to_vec();
    flipped[BAN_STRIKES.len() / 2] ^= 0xff;
    let mut many_memories = crate::guests::honest();
    many_memories.more = "(memory 1)".repeat(5);
    for bytes in [&BAN_STRIKES[..BAN_STRIKES.len() / 2], &flipped, &many_memories.build(), REWARD_FLAT] {
        let (theirs, ours) = (admitted(&child, bytes).unwrap_err(), admitted(&here, bytes).unwrap_err());
        assert_eq!(theirs.to_string(), ours.to_string());
    }
}

fn the_limits_are_in_force_before_the_component_is_read() {
    // What somebody left open for whoever they start.
    let (left_open, _) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let mut asked = Command::new(std::env::current_exe().unwrap());
    let asked = asked.arg(COMPILE).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = asked.spawn().unwrap();
    // The question without its component: magic, seconds, bytes of address space, length.
    let mut pipe = process.stdin.take().unwrap();
    let head = [b"PWQ1".as_slice(), &7_u32.to_le_bytes(), &(2_u64 << 30).to_le_bytes(), &100_u32.to_le_bytes()];
    pipe.write_all(&head.concat()).unwrap();
    let of = |file: &str| PathBuf::from(format!("/proc/{}/{file}", process.id()));
    let line = |limits: &str, name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let limits = loop {
        let limits = std::fs::read_to_string(of("limits")).unwrap();
        // The last one that is set.
        if line(&limits, "Max address space") == ["2147483648", "2147483648"] {
            break limits;
        }
        assert!(Instant::now() < deadline, "{limits}");
        std::thread::yield_now();
    };
    assert_eq!(line(&limits, "Max cpu time"), ["7", "8"]);
    assert_eq!(line(&limits, "Max core file size"), ["0", "0"]);
    assert_eq!(line(&limits, "Max file size"), ["0", "0"]);
    assert_eq!(line(&limits, "Max open files"), ["3", "3"]);
    let open: Vec<_> = std::fs::read_dir(of("fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(open.len(), 3, "{open:?}");
    assert_eq!(std::fs::read_to_string(of("oom_score_adj")).unwrap().trim(), "1000");
    let stat = std::fs::read_to_string(of("stat")).unwrap();
    let nice: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap();
    assert!(nice >= 10, "{stat}");
    drop(pipe);
    process.wait().unwrap();
}

fn a_command_that_nobody_asked_says_whose_it_is() {
    let typed = Command::new(std::env::current_exe().unwrap()).arg(COMPILE).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&typed.stdout).into_owned();
    assert!(said.ends_with("this command is started by a node, not by hand"), "{said}");
}

fn a_compiler_that_is_none_is_a_finding_and_leaves_nothing_behind() {
    let wall = Duration::from_millis(300);
    let program = |program: &str, arguments: &[&str], wall| {
        let arguments = arguments.iter().map(Into::into).collect();
        engine(Child { program: program.into(), arguments, limits: CompileLimits { wall, ..AMPLE } })
    };
    let sh = |script: &str, wall| program("/bin/sh", &["-c", script], wall);
    refused(&program("/no/such/program", &[], AMPLE.wall), BAN_STRIKES, "compile", "/no/such/program does not start");
    refused(&sh("exec sleep 1000", wall), BAN_STRIKES, "compile", "not done after 0.3 s");
    // The pipe stays open in another process of the group.
    refused(&sh("sleep 1000 & sleep 1000", wall), BAN_STRIKES, "compile", "not done after 0.3 s");
    refused(&sh("exec cat", AMPLE.wall), BAN_STRIKES, "compile", "what it printed is no answer");
    refused(&sh("exec cat /dev/zero", AMPLE.wall), BAN_STRIKES, "compile", "what it printed is no answer");
    refused(&sh("echo mind the gap >&2; exit 3", AMPLE.wall), BAN_STRIKES, "compile", "exit status: 3: mind the gap");
    refused(&sh("cat /dev/zero >&2", wall), BAN_STRIKES, "compile", "not done after 0.3 s");
    refused(&sh("exec sleep 1000 >&2", AMPLE.wall), BAN_STRIKES, "compile", "it gave no answer, and did not end");
    refused(&sh("kill -9 $$", AMPLE.wall), BAN_STRIKES, "compile", "signal: 9 (SIGKILL), which the system does");
    refused(&sh("kill -XCPU $$", AMPLE.wall), BAN_STRIKES, "compile", "more than the 60 s of processor time");
    refused(
        &sh(r#"printf 'PWA1\0\377\377\377\377\377\377\377\0'; exec cat /dev/zero"#, AMPLE.wall),
        BAN_STRIKES,
        "compile",
        "its machine code has 72057594037927935 bytes, and may have 67108864",
    );
    // The environment is nobody's: not even that of the shell that started these tests.
    refused(
        &sh("env | grep -v -e ^RAYON_NUM_THREADS=1$ -e ^PWD= -e ^SHLVL= -e ^_= >&2; exit 4", AMPLE.wall),
        BAN_STRIKES,
        "compile",
        "it gave no answer: exit status: 4;",
    );
    assert_eq!(children(), Vec::<String>::new());
}

fn every_bomb_ends_at_a_limit_with_its_words_and_takes_nothing_of_this_process() {
    let memory = CompileLimits { memory_bytes: 300 << 20, ..AMPLE };
    let cpu = CompileLimits { cpu_s: 1, memory_bytes: 4 << 30, ..AMPLE };
    let wall = CompileLimits { wall: Duration::from_millis(500), ..cpu };
    let (memory, cpu, wall) = (engine(this_program(memory)), engine(this_program(cpu)), engine(this_program(wall)));
    let ready = admitted(&engine(this_program(AMPLE)), BAN_STRIKES).unwrap();
    let before = peak_kb();
    for (name, bytes) in [
        ("one huge function", bombs::one_huge_function(400_000)),
        ("loops of variables", bombs::loops_of_variables(1_000, 40_000)),
        ("tables of jumps", bombs::tables_of_jumps(1_000, 1_500)),
        ("many functions", bombs::many_functions(600_000)),
    ] {
        assert!(bytes.len() <= bombs::MOST, "{name}");
        let start = Instant::now();
        let takes = |what: &str| format!("compiling it takes more than the {what} that it may have; make it of fewer");
        refused(&memory, &bytes, "compile", &takes("300 MiB of memory"));
        let of_memory = start.elapsed();
        refused(&cpu, &bytes, "compile", &takes("1 s of processor time"));
        refused(&wall, &bytes, "compile", "compiling it was not done after 0.5 s; make it of fewer");
        println!("  {name}: {} bytes; {of_memory:?} for 300 MiB, {:?} in all", bytes.len(), start.elapsed());
    }
    // A child had 300 MiB and more.
    let grown = peak_kb() - before;
    assert!(grown < 100 << 10, "{grown} kB");
    assert_eq!(children(), Vec::<String>::new());
    assert!(judge(&ready.policy, "{}").is_ok());
}

fn odd_shapes_are_taken_or_refused_and_never_fell_a_process() {
    let engine = engine(this_program(AMPLE));
    let world = "it does not export `pingward:policy/ban`";
    let mut wrong = Vec::new();
    for (name, bytes, check, words) in [
        ("ten nested", bombs::nested_components(10), "world", world),
        ("a thousand nested", bombs::nested_components(1_000), "world", world),
        ("deeply nested", bombs::nested_components(100_000), "compile", "memory"),
        ("types that double", bombs::types_that_double(40), "decode", "type size"),
        ("many types", bombs::many_types(200_000), "world", world),
        ("many exports", bombs::many_exports(300_000), "world", world),
        ("many imports", bombs::many_imports(50_000), "resources", "more than a policy may have"),
        ("many functions", bombs::many_functions(10_000), "world", world),
    ] {
        assert!(bytes.len() <= bombs::MOST, "{name}");
        let start = Instant::now();
        let findings = admitted(&engine, &bytes).expect_err(name);
        println!("  {name}: {} bytes, {:?}", bytes.len(), start.elapsed());
        if findings.0[0].check != check || !findings.to_string().contains(words) {
            wrong.push(format!("{name}: {findings}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(admitted(&engine, BAN_STRIKES).is_ok());
}
