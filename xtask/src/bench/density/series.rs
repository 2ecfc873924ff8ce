//! What the series of statistics records says.

use crate::machine::BOCHS_HZ;

/// Parts of a thousand of the final number of saved pages by which a settled machine may still grow.
const TOLERANCE_PER_MILLE: u64 = 5;
/// For so long after the settled record guests must have run, or nobody knows that it was.
const PROOF: u64 = 2 * BOCHS_HZ;
/// For so long after the pause there may still be work: what was written last is calm after at most 15 epochs.
const EPOCHS_OWED: u64 = 16;

/// What one record says, in frames and pages of 4 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When, in ticks.
    pub at: u64,
    /// Merge work so far.
    pub instructions: u64,
    /// Pages that share the frame of another one.
    pub sharing: u64,
    /// Pages that map the zero frame.
    pub zero: u64,
    /// Frames that are not free.
    pub used: u64,
    /// Frames that hold pages of guests.
    pub guests: u64,
    /// Pages that guests were promised.
    pub promised: u64,
}

impl Sample {
    /// Pages without a frame of their own.
    const fn saved(&self) -> u64 {
        self.sharing + self.zero
    }
}

/// The records from the last `up` to the pause and from the pause to the hashing.
#[derive(Debug)]
pub struct Series {
    /// At least one, with all guests up and running.
    running: Vec<Sample>,
    /// At least one, with all guests paused.
    paused: Vec<Sample>,
    /// Ticks of an epoch.
    epoch: u64,
    /// Distinct contents of all pages, the zero page among them.
    ideal: u64,
}

impl Series {
    /// Sorts samples, which are in order, by the times of the last `up` and of the first pause.
    pub fn new(
        samples: Vec<Sample>,
        up: u64,
        paused: u64,
        ideal: u64,
        epoch_us: u64,
    ) -> Result<Self, String> {
        let (running, still): (Vec<Sample>, Vec<Sample>) = samples
            .into_iter()
            .filter(|sample| sample.at >= up)
            .partition(|sample| sample.at <= paused);
        if running.is_empty() || still.is_empty() {
            return Err("there are no statistics between up, pause and end".to_owned());
        }
        Ok(Self {
            running,
            paused: still,
            epoch: epoch_us * (BOCHS_HZ / 1_000_000),
            ideal,
        })
    }

    /// Bytes in use in the end, Pleat included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end().used * 4096
    }

    /// The least number of frames that could hold the guests' pages against those that do.
    #[must_use]
    pub fn ideal_fraction(&self) -> f64 {
        // One more: the zero frame belongs to no guest.
        super::float(self.ideal) / super::float(self.end().guests + 1)
    }

    /// Merge work from the last `up` until the machine was settled.
    pub fn settle_instructions(&self) -> Result<u64, String> {
        let settled = self.settled()?;
        Ok(settled.instructions - self.running[0].instructions)
    }

    /// Merge work in the time of an epoch while guests run that have nothing to do.
    pub fn running_epoch(&self) -> Result<f64, String> {
        self.per_epoch(self.settled()?, self.last_running())
    }

    /// Merge work in the time of an epoch while all guests are paused.
    pub fn paused_epoch(&self) -> Result<f64, String> {
        let quiet = self.paused[0].at + EPOCHS_OWED * self.epoch;
        let first = self.paused.iter().find(|sample| sample.at >= quiet);
        let first = first.ok_or("the guests were not paused for long enough")?;
        self.per_epoch(first, self.end())
    }

    fn per_epoch(&self, from: &Sample, to: &Sample) -> Result<f64, String> {
        if to.at < from.at + self.epoch {
            return Err("no epoch is between the records".to_owned());
        }
        let epochs = super::float(to.at - from.at) / super::float(self.epoch);
        Ok(super::float(to.instructions - from.instructions) / epochs)
    }

    /// The first record after which the saved pages never grow by more than the tolerance.
    fn settled(&self) -> Result<&Sample, String> {
        let last = self.last_running();
        if last.sharing == 0 {
            return Err("no page was merged".to_owned());
        }
        let tolerance = last.saved() * TOLERANCE_PER_MILLE / 1000;
        let mut settled = last;
        let mut most = 0;
        for sample in self.running.iter().rev() {
            if most > sample.saved() + tolerance {
                break;
            }
            most = most.max(sample.saved());
            settled = sample;
        }
        if last.at - settled.at < PROOF {
            return Err("merging had not settled when the guests were paused".to_owned());
        }
        Ok(settled)
    }

    fn last_running(&self) -> &Sample {
        &self.running[self.running.len() - 1]
    }

    fn end(&self) -> &Sample {
        &self.paused[self.paused.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, Series};
    use crate::machine::BOCHS_HZ;

    /// A record for each second from the first on: how many pages share, and the merge work so far.
    fn series(running: &[(u64, u64)], paused: &[u64]) -> Series {
        let sample = |(index, (sharing, instructions)): (usize, (u64, u64))| Sample {
            at: (index as u64 + 1) * BOCHS_HZ,
            instructions,
            sharing,
            zero: 1000,
            used: 500,
            guests: 400,
            promised: 10_000,
        };
        let last = running[running.len() - 1].0;
        let all = running
            .iter()
            .copied()
            .chain(paused.iter().map(|work| (last, *work)));
        let samples = all.enumerate().map(sample).collect();
        Series::new(samples, BOCHS_HZ, running.len() as u64 * BOCHS_HZ, 388, 200_000).unwrap()
    }

    #[test]
    fn settled_is_where_growth_ends_and_not_where_it_pauses() {
        // Of 3,000 saved pages 15 are half a percent.
        let running = [
            (100, 0),
            (1900, 50),
            (1900, 60),
            (1985, 70),
            (1990, 80),
            (2000, 90),
            (2000, 100),
        ];
        let series = series(&running, &[100]);
        assert_eq!(series.settle_instructions(), Ok(70));
        assert_eq!(series.running_epoch(), Ok(2.0));
        assert_eq!(series.bytes(), 500 * 4096);
        assert!((series.ideal_fraction() - 388.0 / 401.0).abs() < 1e-9);
    }

    #[test]
    fn an_unsettled_machine_has_no_figure() {
        let growing = [(100, 0), (400, 50), (900, 60), (1900, 70), (2000, 80)];
        let why = series(&growing, &[80]).settle_instructions().unwrap_err();
        assert!(why.contains("had not settled"), "{why}");
        let nothing = [(0, 5), (0, 5), (0, 5), (0, 5)];
        let series = series(&nothing, &[80]);
        assert_eq!(series.settle_instructions(), Err("no page was merged".to_owned()));
        assert!(series.running_epoch().is_err());
    }

    #[test]
    fn work_that_is_left_when_guests_are_paused_is_not_that_of_an_idle_epoch() {
        let running = [(2000, 0), (2000, 0), (2000, 0), (2000, 0)];
        // Paused after four seconds; sixteen epochs of 200 ms later, in the ninth second, it begins to count.
        assert_eq!(
            series(&running, &[0, 900, 900, 900, 1000, 1040, 1060]).paused_epoch(),
            Ok(6.0)
        );
        let why = series(&running, &[0, 900, 1000]).paused_epoch().unwrap_err();
        assert!(why.contains("not paused for long enough"), "{why}");
    }
}
