//! Configuration files against real kernels: which of them start, and what a check says.

#[cfg(test)]
mod alike;
#[cfg(test)]
mod check;
#[cfg(test)]
mod life;
#[cfg(test)]
mod start;
