//! Laws of ranks in threads: sums in the order of the pieces, whatever the number of ranks.

use ranks::{RankError, Ranks, Sums};

struct Total(f64);

impl Sums for Total {
    fn sums(&mut self) -> Vec<&mut f64> {
        vec![&mut self.0]
    }
}

/// Each rank's answer, by rank.
fn together<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = Ranks::in_threads(size).into_iter().map(|ranks| scope.spawn(move || work(&ranks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_taken_in_turn_are_those_of_one_rank_to_the_bit() {
    // Of these, no two orders have the same sum.
    let values = [1e16, 1.0, -1e16, 3.5, 1e-3, 7e15, 2.0];
    let sum = |ranks: &Ranks| {
        let mut total = Total(0.1);
        let mut own = ranks.own(values.len());
        for _ in 0..ranks.rounds(values.len()) {
            let add = own.next().map(|piece| {
                move |total: &mut Total| {
                    total.0 += values[piece];
                    Ok::<_, RankError>(())
                }
            });
            ranks.in_turn(&mut total, add).unwrap();
        }
        total.0.to_bits()
    };
    let alone = sum(&Ranks::Alone);
    for size in 1..=8 {
        assert_eq!(together(size, sum), vec![alone; size], "{size} ranks");
    }
}

#[test]
fn every_rank_gets_what_each_has_for_it() {
    let found = together(3, |ranks| {
        let to: Vec<Vec<f32>> = (0..3).map(|other| vec![(10 * ranks.rank() + other) as f32; other]).collect();
        ranks.exchange(&to.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    });
    assert_eq!(found[0], [Vec::<f32>::new(), Vec::new(), Vec::new()]);
    assert_eq!(found[2], [vec![2.0; 2], vec![12.0; 2], vec![22.0; 2]]);
    let gathered = together(3, |ranks| ranks.gather(&[ranks.rank() as u8]).unwrap());
    assert_eq!(gathered, vec![[vec![0], vec![1], vec![2]]; 3]);
}

#[test]
fn a_rank_that_is_gone_ends_the_others_by_its_number() {
    let ended = together(3, |ranks| match ranks.rank() {
        1 => None,
        _ => Some(ranks.gather(&[0_u8]).unwrap_err().to_string()),
    });
    assert_eq!(ended[1], None);
    for error in [&ended[0], &ended[2]] {
        assert!(error.as_ref().unwrap().contains("has ended before its work was done"), "{error:?}");
    }
}

#[test]
fn ranks_that_do_not_agree_say_so_on_every_rank() {
    let told = together(3, |ranks| ranks.agree(&[u8::from(ranks.rank() == 2)], "its checkpoint", "look").unwrap_err().to_string());
    assert_eq!(told, vec!["rank 2 differs from rank 0 in its checkpoint; look"; 3]);
    assert!(together(2, |ranks| ranks.agree(&[7], "", "").is_ok()).into_iter().all(|agreed| agreed));
}
