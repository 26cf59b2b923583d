"""Reading series and cutting boxes, in processes of their own or in a thread; nothing here knows of servers."""
