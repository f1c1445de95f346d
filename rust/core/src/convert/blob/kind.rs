//! What a packed value can be, and the words for it.

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An array of numbers with at least one axis.
    Array,
    /// A numpy scalar or an array without axes.
    Scalar,
    /// Characters of MATLAB, or one-byte strings.
    Chars,
    /// Integers with an imaginary part, which numpy does not have.
    ComplexIntegers,
    /// Objects or unicode strings.
    Objects,
    /// A cell array of MATLAB.
    Cells,
    /// A struct of MATLAB.
    Struct,
    /// An array of records.
    Records,
    /// A sparse matrix of MATLAB.
    Sparse,
    /// A tuple.
    Tuple,
    /// A list.
    List,
    /// A set.
    Set,
    /// A dictionary.
    Dict,
    /// A string.
    Str,
    /// Bytes.
    Bytes,
    /// An integer.
    Int,
    /// A truth value.
    Bool,
    /// A float.
    Float,
    /// A complex number.
    Complex,
    /// A decimal.
    Decimal,
    /// A date, a time or both.
    Moment,
    /// A UUID.
    Uuid,
    /// None.
    None,
    /// No byte at all.
    Empty,
    /// Text, as 2.0.0 writes an array through a column without a marker.
    Text,
    /// Something that `DataJoint` has not packed.
    Foreign,
    /// Packed, and not whole or not true to itself.
    Damaged,
}

impl Kind {
    /// The word for it in counts and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Scalar => "scalar",
            Self::Chars => "character array",
            Self::ComplexIntegers => "array of complex integers",
            Self::Objects => "object array",
            Self::Cells => "cell array",
            Self::Struct => "struct",
            Self::Records => "structured array",
            Self::Sparse => "sparse array",
            Self::Tuple => "tuple",
            Self::List => "list",
            Self::Set => "set",
            Self::Dict => "dict",
            Self::Str => "str",
            Self::Bytes => "bytes",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Float => "float",
            Self::Complex => "complex",
            Self::Decimal => "Decimal",
            Self::Moment => "datetime",
            Self::Uuid => "UUID",
            Self::None => "None",
            Self::Empty => "empty",
            Self::Text => "text",
            Self::Foreign => "no blob",
            Self::Damaged => "damaged",
        }
    }
}
