//! Which keys a load touches.

use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::load::{Keys, Order};

/// How skewed the zipfian distribution is, as in YCSB.
const SKEW: f64 = 0.99;
/// A large prime: multiplying a rank by it, modulo the number of keys, spreads the popular ones.
const SPREAD: u64 = 4_294_967_311;

/// Chooses keys.
pub(super) struct Chooser {
    keys: Keys,
    next: u64,
    zipf: Option<Zipf>,
}

/// Gray et al., "Quickly generating billion-record synthetic databases".
struct Zipf {
    count: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let sum = |n: u64| (1..=n).map(|i| 1.0 / (i as f64).powf(SKEW)).sum::<f64>();
        let (zeta, count) = (sum(count), count as f64);
        let eta = (1.0 - (2.0 / count).powf(1.0 - SKEW)) / (1.0 - sum(2) / zeta);
        Self {
            count,
            zeta,
            alpha: 1.0 / (1.0 - SKEW),
            eta,
        }
    }

    /// A rank, 0 for the most popular.
    fn rank(&self, random: &mut SmallRng) -> u64 {
        let u: f64 = random.random();
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5_f64.powf(SKEW) {
            1
        } else {
            (self.count * (self.eta * u - self.eta + 1.0).powf(self.alpha)) as u64
        }
    }
}

impl Chooser {
    pub(super) fn new(keys: Keys) -> Self {
        let zipf = matches!(keys.order, Order::Zipf).then(|| Zipf::new(keys.count));
        Self {
            keys,
            next: 0,
            zipf,
        }
    }

    /// Whether there is nothing left to touch.
    pub(super) fn done(&self) -> bool {
        let once = matches!(self.keys.order, Order::Sequence | Order::Scattered(_));
        once && self.next >= self.keys.count
    }

    fn number(&mut self, random: &mut SmallRng) -> u64 {
        if let Some(zipf) = &self.zipf {
            return self.spread(zipf.rank(random));
        }
        if matches!(self.keys.order, Order::Uniform) {
            return random.random_range(0..self.keys.count);
        }
        let place = self.next;
        self.next += 1;
        match self.keys.order {
            // Powers of a prime that is larger than the number of keys: each place leads to another key.
            Order::Scattered(round) => (0..=round).fold(place, |number, _| self.spread(number)),
            _ => place,
        }
    }

    fn spread(&self, number: u64) -> u64 {
        (u128::from(number) * u128::from(SPREAD) % u128::from(self.keys.count)) as u64
    }

    /// Writes the next key, as a bulk string.
    pub(super) fn write(&mut self, random: &mut SmallRng, out: &mut Vec<u8>) {
        let mut number = self.number(random);
        let form = self.keys.form;
        out.extend_from_slice(form.head.as_bytes());
        let at = out.len();
        out.resize(at + form.digits, b'0');
        for digit in out[at..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        out.extend_from_slice(b"\r\n");
    }
}
