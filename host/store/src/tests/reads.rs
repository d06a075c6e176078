//! Pages of history say what a plain walk over everything that was written says.

use kernel::command::Command;
use kernel::id::{LogIndex, MemberNumber, NodeId, RoundId};
use kernel::ledger::Account;
use kernel::outcome::{Change, Kind, Line, Move, RoundRecord, Write};

use super::player::{Player, node};
use super::{PLENTY, commit};
use crate::{Disk, LineKey, MoveKey, Page, Store};

/// All that was ever written.
#[derive(Default)]
struct Model {
    rounds: Vec<RoundRecord>,
    moves: Vec<Move>,
    lines: Vec<Line>,
    changes: Vec<Change>,
    settlements: Vec<Command>,
}

fn played() -> (Store, Model, Player) {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (mut player, mut steps) = Player::with_members(11, 40);
    let mut model = Model::default();
    steps.extend((0..900).map(|_| player.step()));
    for batch in steps.chunks(7) {
        commit(&store, batch).unwrap();
        for step in batch {
            if step.accepted && matches!(step.entry.command, Command::Settle(_)) {
                model.settlements.push(step.entry.command.clone());
            }
            for write in step.writes.clone() {
                match write {
                    Write::Round(row) => model.rounds.push(*row),
                    Write::Move(row) => model.moves.push(*row),
                    Write::Line(row) => model.lines.push(row),
                    Write::Change(row) => model.changes.push(row),
                    Write::Meta(_)
                    | Write::Profile(..)
                    | Write::Hot(..)
                    | Write::Wallet(..)
                    | Write::Slot(..)
                    | Write::Policy(..)
                    | Write::Component(..)
                    | Write::Upload(..)
                    | Write::Validators(_)
                    | Write::Batch(..)
                    | Write::Contents(..)
                    | Write::Memory { .. } => {}
                }
            }
        }
    }
    model.moves.sort_by_key(MoveKey::of);
    (store, model, player)
}

/// Follows `next` from the beginning to the end.
fn all<T, K: Copy>(first: K, mut read: impl FnMut(K) -> Page<T, K>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), first);
    loop {
        let page = read(after);
        items.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => return items,
        }
    }
}

const BEGINNING: LineKey = LineKey { index: LogIndex(0), part: 0 };
const FIRST_MOVE: MoveKey = MoveKey { round: RoundId(0), index: LogIndex(0), node: NodeId([0; 32]) };

#[test]
fn rounds_come_in_pages_and_one_by_one() {
    let (store, model, player) = played();
    assert!(model.rounds.len() > 200);
    let heads: Vec<RoundRecord> = model.rounds.iter().map(crate::rows::round::head).collect();
    assert_eq!(all(RoundId(0), |after| store.rounds(Some(after), 7).unwrap()), heads);
    let newest = store.rounds(None, 5).unwrap();
    assert_eq!((newest.items.as_slice(), newest.next), (&heads[heads.len() - 5..], None));
    for (record, command) in model.rounds.iter().zip(&model.settlements) {
        assert_eq!(store.round(record.round).unwrap().as_ref(), Some(record));
        let settle = store.settlement(record.round).unwrap().unwrap();
        assert_eq!(&Command::Settle(Box::new(settle)), command);
    }
    assert_eq!(store.oldest_round().unwrap(), Some(RoundId(1)));
    assert_eq!(store.round(player.state.meta.settled.next()).unwrap(), None);
}

#[test]
fn moves_of_all_and_of_one_since_a_round() {
    let (store, model, _) = played();
    assert!(model.moves.len() > 50, "{}", model.moves.len());
    assert_eq!(all(FIRST_MOVE, |after| store.moves(None, None, Some(after), 3).unwrap()), model.moves);
    let newest = store.moves(None, None, None, 4).unwrap();
    assert_eq!((newest.items.as_slice(), newest.next), (&model.moves[model.moves.len() - 4..], None));
    let since = model.moves[model.moves.len() / 2].round;
    for member in 0..20 {
        let of = node(member);
        let mut wanted: Vec<Move> = model.moves.iter().filter(|row| row.node == of).cloned().collect();
        assert_eq!(all(FIRST_MOVE, |after| store.moves(Some(of), None, Some(after), 2).unwrap()), wanted);
        let newest = store.moves(Some(of), None, None, 1).unwrap().items;
        assert_eq!(newest.last(), wanted.last());
        wanted.retain(|row| row.round >= since);
        let found = store.moves(Some(of), Some(since), None, 1_000).unwrap();
        assert_eq!((found.items, found.next), (wanted, None));
    }
    let wanted: Vec<Move> = model.moves.iter().filter(|row| row.round >= since).cloned().collect();
    let found = all(FIRST_MOVE, |after| store.moves(None, Some(since), Some(after), 3).unwrap());
    assert_eq!(found, wanted);
}

#[test]
fn changes_come_in_pages() {
    let (store, model, _) = played();
    assert!(model.changes.len() > 20);
    assert_eq!(all(BEGINNING, |after| store.changes(Some(after), 3).unwrap()), model.changes);
    assert_eq!(store.changes(None, 1).unwrap().items.last(), model.changes.last());
}

#[test]
fn the_lines_of_an_account_add_up_to_its_balance() {
    let (store, model, player) = played();
    let mut rewards = 0;
    for (of, member) in &player.state.members {
        let number = Some(member.profile.number);
        let lines = all(BEGINNING, |after| store.lines(*of, number, Some(after), 3).unwrap());
        assert!(lines.is_sorted_by_key(|item| LineKey::of_line(&item.line)));
        let balance = |account: Account| -> i64 {
            let sign = |line: &Line| i64::from(line.to == account) - i64::from(line.from == account);
            lines.iter().map(|item| sign(&item.line) * item.line.points.0).sum()
        };
        assert_eq!(balance(Account::Earned(*of)), member.hot.earned.0, "{of}");
        let wallet = player.state.wallets.get(of).map_or(0, |wallet| wallet.balance.0);
        assert_eq!(balance(Account::Wallet(*of)), wallet, "{of}");
        let plain: Vec<&Line> = lines.iter().map(|item| &item.line).filter(|line| line.part != u32::MAX).collect();
        let touches = |account: Account| account == Account::Earned(*of) || account == Account::Wallet(*of);
        let wanted: Vec<&Line> = model.lines.iter().filter(|line| touches(line.from) || touches(line.to)).collect();
        assert_eq!(plain, wanted);
        rewards += lines.iter().filter(|item| matches!(item.line.kind, Kind::Reward | Kind::Deduction)).count();
        let newest = store.lines(*of, number, None, 4).unwrap();
        assert_eq!(newest.items.as_slice(), &lines[lines.len().saturating_sub(4)..]);
    }
    assert!(rewards > 0);
}

#[test]
fn a_long_account_is_read_in_bounded_work() {
    let store = Store::open(&Disk::memory(), PLENTY).unwrap();
    let (mut player, steps) = Player::with_members(1, 2);
    commit(&store, &steps).unwrap();
    let idle: Vec<_> = (0..2_500).map(|_| player.settle()).collect();
    commit(&store, &idle).unwrap();
    let (mut pages, mut after) = (0, BEGINNING);
    while let Some(next) = {
        let page = store.lines(node(0), Some(MemberNumber(0)), Some(after), 100).unwrap();
        assert!(page.items.is_empty(), "nobody pays without a policy");
        pages += 1;
        page.next
    } {
        after = next;
    }
    assert_eq!(pages, 3, "a thousand rounds a page");
}
