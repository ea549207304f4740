"""How a facts file gets into the store: `rows` says what it means as rows, `plan` compares them with those that are
there, refuses what must not be, and puts the rest in order; `kinds` has the tables and their statements. The doing, and
what others call, is in `store.seed`.
"""
