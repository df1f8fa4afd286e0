"""What the stores on server databases have in common: one engine, whose hot statements and tables a `dialect.Dialect` gives.

`engine` ties two lines of a database (`callboard.databases`) to the seam, `writes` does the verbs inside a transaction, `reads`
answers questions, `routes` and `schema` turn rows into jobs, `migrations` makes and changes the tables. The products' own parts
are in `jobs.engines.mysql` and `jobs.engines.postgresql`.

How a verb is done, with two exceptions: lock the rows it is about and read them, let `states` decide, write what was decided.
Other transactions wait, or (Galera) are refused when they commit. The exceptions are hot: claims choose and write in
one go, and ends of claims made here are one guarded statement, judged by the number of rows that it touched.
"""
