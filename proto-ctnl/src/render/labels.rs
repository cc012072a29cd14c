//! The names of label bits.

/// The names of the 128 label bits, as a `connlabel.conf` defines them.
#[derive(Clone, Debug, Default)]
pub struct LabelNames {
    names: Vec<Vec<u8>>,
}

impl LabelNames {
    /// Names bit `bit`. Ignored from 128 on: flows have no such bit.
    pub fn insert(&mut self, bit: usize, name: &[u8]) {
        if bit >= 128 {
            return;
        }
        if self.names.len() <= bit {
            self.names.resize(bit + 1, Vec::new());
        }
        self.names[bit] = name.to_vec();
    }

    /// The named bits with their names, lowest bit first.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.names.iter().enumerate().filter(|(_, n)| !n.is_empty()).map(|(i, n)| (i, &n[..]))
    }
}
