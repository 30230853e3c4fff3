use model::Rng;

use crate::usable::Usable;

/// Draws positions in proportion to their weights, in constant time and with one random number
/// (Walker's alias method, built as in Vose, "A linear algorithm for generating random numbers
/// with a given distribution", IEEE TSE 1991), in whole numbers, so that it is the same on every
/// machine.
pub(crate) struct AliasTable {
    columns: Vec<Column>,
}

/// Each column holds an equal share of the whole and splits it between two entries.
#[derive(Clone, Copy)]
struct Column {
    /// Which part of the column is its own: out of 2^32.
    own: u64,
    position: u32,
    /// Who has the rest.
    other: u32,
}

const WHOLE: u64 = 1 << 32;

impl AliasTable {
    pub(crate) fn new(usable: &Usable) -> Self {
        let entries = usable.entries();
        let count = entries.len() as u64;
        let total: u64 = entries.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut columns: Vec<Column> = entries
            .iter()
            .map(|(position, _)| Column { own: WHOLE, position: *position, other: *position })
            .collect();
        // In units where a column's share is `total`. At most 2^16 * 2^32: no overflow.
        let mut shares: Vec<u64> =
            entries.iter().map(|(_, weight)| u64::from(*weight) * count).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|index| shares[*index] < total);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            columns[poor].own =
                (u128::from(shares[poor]) * u128::from(WHOLE) / u128::from(total)) as u64;
            columns[poor].other = columns[rich].position;
            shares[rich] -= total - shares[poor];
            if shares[rich] < total {
                large.pop();
                small.push(rich);
            }
        }
        Self { columns }
    }

    /// `None` only if there is nothing to draw from.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Option<u32> {
        // The high half of the product chooses the column, and its low half, which is as good as
        // uniform for any number of columns that fits in memory, chooses the part of the column.
        let product = u128::from(rng.next_u64()) * self.columns.len() as u128;
        let column = self.columns.get((product >> 64) as usize)?;
        let part = (product as u64) >> 32;
        Some(if part < column.own { column.position } else { column.other })
    }
}
