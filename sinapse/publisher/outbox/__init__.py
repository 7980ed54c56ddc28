"""A transactional outbox: messages are rows of the application's database until Redis has them.

A message that is published in a transaction is a row of that transaction: so it is sent if, and
only if, the transaction is committed, whatever is killed when. The process that has committed sends
it at once; what it cannot send is sent by a relay.

Each message comes once, and those of a channel in the order of their rows, whoever sends them:
everybody who sends begins with the first row of a channel that is there, and Redis remembers the
message ids of the rows. So none of them needs to know of the others.

``rows``       a message as a row
``delivery``   rows that are sent, with what became of each
``store``      the outbox of a database, whatever asks that
``notices``    what a database tells when there is something
``committed``  what a process sends after its own commit
``relay``      sending what others have left, again and again
``metrics``    what a relay has done, as Prometheus text
``running``    a relay as a process: until it is told to end, with its metrics
"""
