//! [`Priority`]: 0 lowest to 9 highest.

/// How urgent an event is: 0 lowest to 9 highest, 5 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

/// The four named bands of the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 0 to 2.
    Low,
    /// 3 to 5.
    Normal,
    /// 6 and 7.
    High,
    /// 8 and 9: these pass an open circuit breaker.
    Critical,
}

impl Priority {
    /// How many priorities there are.
    pub const COUNT: usize = 10;
    /// 0.
    pub const MIN: Self = Self(0);
    /// 2, the upper end of the low band.
    pub const LOW: Self = Self(2);
    /// 5.
    pub const DEFAULT: Self = Self(5);
    /// 7, the upper end of the high band.
    pub const HIGH: Self = Self(7);
    /// 8, the lower end of the critical band.
    pub const CRITICAL: Self = Self(8);
    /// 9.
    pub const MAX: Self = Self(9);

    /// `None` above 9.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 9 { Some(Self(value)) } else { None }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number as an index below [`COUNT`](Self::COUNT).
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All of them, lowest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=9).map(Self)
    }

    /// The band it lies in.
    pub const fn level(self) -> Level {
        match self.0 {
            0..=2 => Level::Low,
            3..=5 => Level::Normal,
            6..=7 => Level::High,
            _ => Level::Critical,
        }
    }

    /// Whether an event of this priority passes an open circuit breaker.
    #[inline]
    pub const fn bypasses_breaker(self) -> bool {
        self.0 >= Self::CRITICAL.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}
